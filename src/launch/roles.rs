//! Who may speak for whom.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Who may sign and vote in which role: users by name. Empty: there are no rules, and everybody may in every role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    /// By role; a role without users is everybody's.
    pub users: BTreeMap<Arc<str>, Vec<Arc<str>>>,
}

impl Roles {
    /// Whether a launch may name this role.
    pub fn knows(&self, role: &str) -> bool {
        self.users.is_empty() || self.users.contains_key(role)
    }

    /// Whether `user` may speak for a role. Nobody is above it, `root` neither.
    ///
    /// # Errors
    /// Who may, as a sentence.
    pub fn may_speak(&self, role: &str, user: Option<&str>) -> Result<(), String> {
        let Some(users) = self.users.get(role).filter(|users| !users.is_empty()) else { return Ok(()) };
        if user.is_some_and(|user| users.iter().any(|may| **may == *user)) {
            return Ok(());
        }
        let who = user.unwrap_or("a user without a name");
        Err(format!(
            "{who} may not speak for {role}; {} may (launches.roles in the configuration)",
            users.join(", ")
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_its_users_and_one_without_users_is_everybodys() {
        let users =
            BTreeMap::from([("devops".into(), vec!["alice".into(), "bob".into()]), ("pm".into(), vec![])]);
        let roles = Roles { users };
        #[track_caller]
        fn check(roles: &Roles, role: &str, user: Option<&str>, expected: Result<(), &str>) {
            let said = roles.may_speak(role, user);
            assert_eq!(said.is_ok(), expected.is_ok(), "{said:?}");
            if let (Err(said), Err(expected)) = (said, expected) {
                assert!(said.contains(expected), "{said}");
            }
        }
        check(&roles, "devops", Some("bob"), Ok(()));
        check(&roles, "devops", Some("root"), Err("root may not speak for devops; alice, bob may"));
        check(&roles, "devops", None, Err("a user without a name"));
        check(&roles, "pm", None, Ok(()));
        check(&roles, "qa", Some("bob"), Ok(()));
        check(&Roles::default(), "devops", Some("eve"), Ok(()));
        assert!(roles.knows("pm") && !roles.knows("qa") && Roles::default().knows("qa"));
    }
}
