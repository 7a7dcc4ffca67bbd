//! What the configuration says of launches: who may speak for which role.

use std::sync::Arc;

use super::file::ConfigFile;
use super::plan::{Name, Text};
use super::problem::{Findings, below};
use super::scalar::Scalar;
use super::written::Short;
use crate::launch::Roles;

/// Who may speak for whom.
pub(super) fn roles(findings: &mut Findings, file: &mut ConfigFile) -> Roles {
    let mut roles = Roles::default();
    let written = file.launches.take().and_then(|launches| launches.roles);
    for (name, users) in written.map(|named| named.0).unwrap_or_default() {
        let place = below("launches.roles", &name.text);
        let role = match Name::read(&name.text) {
            Ok(Name(role)) => role,
            Err(why) => {
                findings.wrong_at(&place, None, name.line, why);
                continue;
            }
        };
        let mut known: Vec<Arc<str>> = Vec::new();
        for user in users.map(Short::into_items).unwrap_or_default() {
            let Some(Text(text)) = findings.read(&place, &user) else { continue };
            if text.contains([':', ' ', ',']) {
                findings.wrong(&place, &user, "is no user's name; write a list: [alice, bob]");
            } else if known.contains(&text) {
                findings.wrong(&place, &user, "is named twice; once is enough");
            } else {
                known.push(text);
            }
        }
        roles.users.insert(role, known);
    }
    roles
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Overrides, parse};

    const SERVICES: &str = "services:\n  shop: {blue: http://127.0.0.1:1}\n";

    #[test]
    fn roles_have_users_one_or_a_list_or_none() {
        let text = format!("launches: {{roles: {{devops: [alice, bob], qa: carol, pm: }}}}\n{SERVICES}");
        let config = parse(&text, "test", Path::new("."), &Overrides::default()).unwrap();
        let users: Vec<_> =
            config.roles.users.iter().map(|(role, users)| (&**role, users.join(" "))).collect();
        assert_eq!(
            users,
            [("devops", "alice bob".to_owned()), ("pm", String::new()), ("qa", "carol".to_owned())]
        );
        let none = parse(SERVICES, "test", Path::new("."), &Overrides::default()).unwrap();
        assert!(none.roles.users.is_empty());
    }

    #[test]
    fn what_is_no_user_is_refused_with_its_line() {
        #[track_caller]
        fn check(roles: &str, expected: &str) {
            let text = format!("{SERVICES}launches:\n  roles:\n    {roles}\n");
            let error = parse(&text, "test", Path::new("."), &Overrides::default()).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("line 5"), "{error}");
        }
        check("devops: alice bob", "is no user's name");
        check("devops: [alice, alice]", "is named twice");
        check("'': [alice]", "launches.roles");
    }
}
