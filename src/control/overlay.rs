//! What people have changed about a variant's endpoints at run time.
//!
//! The configuration, or a deployment, says which endpoints a variant has; this lies over it: some more, some fewer,
//! some that get nothing new. It is part of the state, so it survives a restart, and it only says what differs: what
//! the configuration comes to say itself, or no longer knows, is folded away. It never touches the split.

use serde::{Deserialize, Serialize};

use crate::upstream::{EndpointSpec, EndpointUrl};

/// Changes over the endpoints that a variant would have without them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Overlay {
    /// Endpoints that are there as well; one that is `removed`, too, has another weight than it would have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub added: Vec<EndpointSpec>,
    /// Endpoints that are not there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<EndpointUrl>,
    /// Endpoints that are there and get nothing new.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drained: Vec<EndpointUrl>,
}

/// An endpoint that a variant has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Which.
    pub spec: EndpointSpec,
    /// Whether it gets nothing new.
    pub drains: bool,
}

impl Overlay {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.drained.is_empty()
    }

    /// What there is of `base` with these changes.
    pub fn over(&self, base: &[EndpointSpec]) -> Vec<Placed> {
        let kept = base.iter().filter(|spec| !self.removed.contains(&spec.url));
        let all = kept.chain(&self.added);
        all.map(|spec| Placed { spec: spec.clone(), drains: self.drained.contains(&spec.url) }).collect()
    }

    /// With an endpoint, or with another weight of it.
    pub fn with(mut self, base: &[EndpointSpec], spec: &EndpointSpec) -> Self {
        self.added.retain(|added| added.url != spec.url);
        self.removed.retain(|url| *url != spec.url);
        if !base.contains(spec) {
            if base.iter().any(|known| known.url == spec.url) {
                self.removed.push(spec.url.clone());
            }
            self.added.push(spec.clone());
        }
        self
    }

    /// Without an endpoint.
    pub fn without(mut self, base: &[EndpointSpec], url: &EndpointUrl) -> Self {
        self.added.retain(|added| added.url != *url);
        self.drained.retain(|drained| drained != url);
        if base.iter().any(|spec| spec.url == *url) && !self.removed.contains(url) {
            self.removed.push(url.clone());
        }
        self
    }

    /// With an endpoint that gets nothing new, or gets something again.
    pub fn draining(mut self, url: &EndpointUrl, drains: bool) -> Self {
        self.drained.retain(|drained| drained != url);
        if drains {
            self.drained.push(url.clone());
        }
        self
    }

    /// What is left to say over another `base`. An endpoint that `base` names by now is no addition any more, one that
    /// it does not name is not removed; what `other` has, the other variant's base, cannot be here.
    pub fn folded(&self, base: &[EndpointSpec], other: &[EndpointSpec]) -> Self {
        let is_named = |list: &[EndpointSpec], url: &EndpointUrl| list.iter().any(|spec| spec.url == *url);
        // With another weight by somebody's wish: that holds until the base has the same.
        let reweighed = |spec: &EndpointSpec| self.removed.contains(&spec.url) && !base.contains(spec);
        let mut folded = self.clone();
        folded
            .added
            .retain(|spec| !is_named(other, &spec.url) && (!is_named(base, &spec.url) || reweighed(spec)));
        let is_equal = |url: &EndpointUrl| {
            self.added.iter().any(|spec| spec.url == *url)
                && !folded.added.iter().any(|spec| spec.url == *url)
        };
        folded.removed.retain(|url| is_named(base, url) && !is_equal(url));
        let left = folded.over(base);
        folded.drained.retain(|url| left.iter().any(|placed| placed.spec.url == *url));
        folded
    }

    /// What it changes, for people: `added http://a:1 (weight 2), draining http://b:1`. Empty if nothing.
    pub fn describe(&self) -> String {
        let urls = |urls: &[EndpointUrl]| urls.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let reweighed = |url: &EndpointUrl| self.added.iter().any(|spec| spec.url == *url);
        let (mut added, mut changed) = (Vec::new(), Vec::new());
        for EndpointSpec { url, weight } in &self.added {
            match (self.removed.contains(url), weight) {
                (true, weight) => changed.push(format!("{url} has weight {weight}")),
                (false, 1) => added.push(url.to_string()),
                (false, weight) => added.push(format!("{url} (weight {weight})")),
            }
        }
        let removed: Vec<_> = self.removed.iter().filter(|url| !reweighed(url)).cloned().collect();
        let parts = [
            ("added ", added.join(", ")),
            ("", changed.join(", ")),
            ("removed ", urls(&removed)),
            ("draining ", urls(&self.drained)),
        ];
        let parts: Vec<_> = parts
            .iter()
            .filter(|(_, list)| !list.is_empty())
            .map(|(what, list)| format!("{what}{list}"))
            .collect();
        parts.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `a` is `http://a:80` with weight 1, `a3` the same with weight 3, `a!` drains.
    fn spec(word: &str) -> EndpointSpec {
        let (name, rest) = word.split_at(1);
        let weight = rest.trim_end_matches('!').parse().unwrap_or(1);
        EndpointSpec { url: format!("http://{name}").parse().unwrap(), weight }
    }

    fn specs(words: &str) -> Vec<EndpointSpec> {
        words.split_whitespace().map(spec).collect()
    }

    fn urls(words: &str) -> Vec<EndpointUrl> {
        specs(words).into_iter().map(|spec| spec.url).collect()
    }

    fn placed(overlay: &Overlay, base: &str) -> String {
        let words = overlay.over(&specs(base)).into_iter().map(|Placed { spec, drains }| {
            let name = spec.url.authority();
            let weight = if spec.weight == 1 { String::new() } else { spec.weight.to_string() };
            format!("{name}{weight}{}", if drains { "!" } else { "" })
        });
        words.collect::<Vec<_>>().join(" ")
    }

    fn overlay(added: &str, removed: &str, drained: &str) -> Overlay {
        Overlay { added: specs(added), removed: urls(removed), drained: urls(drained) }
    }

    #[test]
    fn changes_lie_over_what_there_is() {
        let base = specs("a b");
        let none = Overlay::default();
        assert_eq!(placed(&none, "a b"), "a b");
        let more = none.clone().with(&base, &spec("c2"));
        assert_eq!(placed(&more, "a b"), "a b c2");
        let fewer = more.without(&base, &spec("a").url);
        assert_eq!(placed(&fewer, "a b"), "b c2");
        let drained = fewer.clone().draining(&spec("b").url, true).draining(&spec("b").url, true);
        assert_eq!(placed(&drained, "a b"), "b! c2");
        assert_eq!(drained.draining(&spec("b").url, false), fewer);
        // Back by the same way.
        let back = fewer.with(&base, &spec("a")).without(&base, &spec("c").url);
        assert!(back.is_empty(), "{back:?}");
        let heavier = none.with(&base, &spec("a5"));
        assert_eq!(placed(&heavier, "a b"), "b a5");
        assert!(heavier.with(&base, &spec("a")).is_empty());
    }

    #[test]
    fn what_the_configuration_says_itself_is_folded_away() {
        #[track_caller]
        fn check(before: &Overlay, base: &str, other: &str, expected: &Overlay) {
            assert_eq!(before.folded(&specs(base), &specs(other)), *expected);
        }
        let all = overlay("c", "a", "b");
        check(&all, "a b", "", &all);
        check(&all, "a b c", "", &overlay("", "a", "b"));
        check(&all, "b", "", &overlay("c", "", "b"));
        check(&all, "a", "", &overlay("c", "a", ""));
        check(&all, "a b", "c", &overlay("", "a", "b"));
        let heavier = overlay("a5", "a", "");
        check(&heavier, "a b", "", &heavier);
        check(&heavier, "a5 b", "", &Overlay::default());
        check(&heavier, "b", "", &overlay("a5", "", ""));
    }

    #[test]
    fn it_is_told_in_a_sentence() {
        assert_eq!(
            overlay("c d2", "a", "b").describe(),
            "added http://c:80, http://d:80 (weight 2); removed http://a:80; draining http://b:80"
        );
        assert_eq!(overlay("a5", "a", "").describe(), "http://a:80 has weight 5");
        assert_eq!(Overlay::default().describe(), "");
    }

    proptest! {
        #[test]
        fn folding_changes_nothing_over_the_same_base_and_what_is_saved_is_read_back(
            doings in proptest::collection::vec((0u8..4, 0usize..5, 1u16..4), 0..12),
        ) {
            let base = specs("a b2");
            let mut overlay = Overlay::default();
            for (what, which, weight) in doings {
                let url = spec(["a", "b", "c", "d", "e"][which]).url;
                let there = overlay.over(&base).iter().any(|placed| placed.spec.url == url);
                overlay = match what {
                    0 => overlay.with(&base, &EndpointSpec { url, weight }),
                    1 if there => overlay.without(&base, &url),
                    2 if there => overlay.draining(&url, true),
                    3 if there => overlay.draining(&url, false),
                    _ => overlay,
                };
            }
            let (before, after) = (overlay.over(&base), overlay.folded(&base, &[]).over(&base));
            prop_assert_eq!(before.clone(), after);
            let mut urls: Vec<_> = before.iter().map(|placed| placed.spec.url.clone()).collect();
            urls.sort();
            urls.dedup();
            prop_assert_eq!(urls.len(), before.len(), "each once");
            let read: Overlay = serde_json::from_str(&serde_json::to_string(&overlay).unwrap()).unwrap();
            prop_assert_eq!(read, overlay);
        }
    }
}
