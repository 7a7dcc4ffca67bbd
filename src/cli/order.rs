//! From words to what they mean.

use std::collections::BTreeMap;

use super::failure::Failure;
use crate::traffic::{Variant, Weight};

/// What `shift` is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shares {
    /// One share, for the only service there is.
    OfTheOnly(Weight),
    /// Shares by service, at least one.
    ByService(BTreeMap<String, Weight>),
}

impl Shares {
    /// The same for `mirror`, where `off` is 0 %.
    pub(super) fn parse_mirrored(words: &[String]) -> Result<Self, Failure> {
        let share = |word: &String| match word.strip_suffix("off") {
            Some(service) if service.is_empty() || service.ends_with('=') => format!("{service}0%"),
            _ => word.clone(),
        };
        // A service may be called off; its share comes last.
        let last = words.len().saturating_sub(1);
        let is_share = |at: usize, word: &String| at == last || word.contains('=');
        let words: Vec<_> = words
            .iter()
            .enumerate()
            .map(|(at, word)| if is_share(at, word) { share(word) } else { word.clone() })
            .collect();
        Self::parse_for("mirror", &words)
    }

    /// `25%`, `shop 25%`, or `shop=25% cart=10%`.
    pub(super) fn parse(words: &[String]) -> Result<Self, Failure> {
        Self::parse_for("shift", words)
    }

    fn parse_for(verb: &str, words: &[String]) -> Result<Self, Failure> {
        match words {
            [share] if !share.contains('=') => {
                let names_a_service = !share.starts_with(|c: char| c.is_ascii_digit() || "-+.%".contains(c));
                if names_a_service {
                    return Err(usage(format!(
                        "{share:?} alone says no share; write `tidegate {verb} {share} 25%`"
                    )));
                }
                Ok(Self::OfTheOnly(weight(share)?))
            }
            [service, share] if !service.contains('=') && !share.contains('=') => {
                let service = name(service)?;
                let weight = weight(share).map_err(|failure| usage(format!("{service}: {failure}")))?;
                Ok(Self::ByService(BTreeMap::from([(service, weight)])))
            }
            words => Self::by_service(words),
        }
    }

    fn by_service(words: &[String]) -> Result<Self, Failure> {
        let mut shares = BTreeMap::new();
        for word in words {
            let (service, share) = word.split_once('=').ok_or_else(|| {
                usage(format!("{word:?} is not SERVICE=SHARE; write for instance shop=25% cart=10%"))
            })?;
            let service = name(service)?;
            let weight = weight(share).map_err(|failure| usage(format!("{service}: {failure}")))?;
            if shares.insert(service, weight).is_some() {
                return Err(usage(format!("{word:?} names a service for the second time")));
            }
        }
        Ok(Self::ByService(shares))
    }
}

/// What `deploy` is told: the service, if it is named, and the endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Deployment {
    pub(super) service: Option<String>,
    pub(super) endpoints: Vec<String>,
}

impl Deployment {
    /// `[SERVICE] URL…`: what has no scheme in front is a service.
    pub(super) fn parse(words: &[String]) -> Result<Self, Failure> {
        let (service, endpoints) = match words {
            [first, rest @ ..] if !is_url(first) => (Some(name(first)?), rest),
            all => (None, all),
        };
        if let Some(stray) = endpoints.iter().find(|word| !is_url(word)) {
            return Err(usage(format!("{stray:?} lacks its scheme; did you mean http://{stray}?")));
        }
        if endpoints.is_empty() {
            let what = "no endpoint; write for instance `tidegate deploy shop http://10.0.0.21:3000`";
            return Err(usage(what.to_owned()));
        }
        Ok(Self { service, endpoints: endpoints.to_vec() })
    }
}

/// What `endpoint` is told: the service, if it is named, the variant and the endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) service: Option<String>,
    pub(super) variant: Variant,
    pub(super) endpoints: Vec<String>,
}

impl Places {
    /// `[SERVICE] VARIANT URL…`.
    pub(super) fn parse(words: &[String]) -> Result<Self, Failure> {
        let at = words.iter().position(|word| is_url(word)).unwrap_or(words.len());
        let (names, endpoints) = words.split_at(at);
        let variant = |word: &String| word.parse::<Variant>().map_err(usage);
        let (service, variant) = match names {
            [place] => (None, variant(place)?),
            [service, place] => (Some(name(service)?), variant(place)?),
            [_, _, stray, ..] => {
                return Err(usage(format!("{stray:?} lacks its scheme; did you mean http://{stray}?")));
            }
            [] => return Err(usage("whose endpoint? name blue or green in front of it".to_owned())),
        };
        if let Some(stray) = endpoints.iter().find(|word| !is_url(word)) {
            return Err(usage(format!("{stray:?} lacks its scheme; did you mean http://{stray}?")));
        }
        if endpoints.is_empty() {
            let what = "no endpoint; write for instance `shop green http://10.0.0.22:3000`";
            return Err(usage(what.to_owned()));
        }
        Ok(Self { service, variant, endpoints: endpoints.to_vec() })
    }
}

fn is_url(word: &str) -> bool {
    word.contains("://") || word.starts_with("unix:")
}

/// What `override` is told: the service, if it is named, and where the tester goes.
pub(super) fn tester(words: &[String]) -> Result<(Option<String>, Variant), Failure> {
    let variant = |word: &String| word.parse::<Variant>().map_err(usage);
    match words {
        [place] => Ok((None, variant(place)?)),
        [service, place] => Ok((Some(name(service)?), variant(place)?)),
        _ => Err(usage("write `tidegate override SERVICE VARIANT`".to_owned())),
    }
}

fn weight(text: &str) -> Result<Weight, Failure> {
    text.parse().map_err(|error: crate::traffic::ShareError| usage(error.to_string()))
}

fn name(text: &str) -> Result<String, Failure> {
    match text {
        "" => Err(usage("a service cannot have an empty name".to_owned())),
        named => Ok(named.to_owned()),
    }
}

fn usage(text: String) -> Failure {
    Failure::Usage(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn mirroring_is_off_at_no_share() {
        let check = |line: &str, expected: &str| {
            let said = match Shares::parse_mirrored(&words(line)) {
                Ok(Shares::OfTheOnly(share)) => share.to_string(),
                Ok(Shares::ByService(shares)) => {
                    shares.iter().map(|(service, share)| format!("{service} {share};")).collect()
                }
                Err(failure) => failure.to_string(),
            };
            assert_eq!(said, expected, "{line}");
        };
        check("off", "0%");
        check("10%", "10%");
        check("shop off", "shop 0%;");
        check("off off", "off 0%;");
        check("shop=off cart=5%", "cart 5%;shop 0%;");
        check("shop", "\"shop\" alone says no share; write `tidegate mirror shop 25%`");
    }

    #[test]
    fn shares_are_for_one_service_or_for_many() {
        #[track_caller]
        fn check(line: &str, expected: Result<&[(&str, u32)], &str>) {
            let got = Shares::parse(&words(line));
            let weight = |millipercent| Weight::from_millipercent(millipercent).unwrap();
            match expected {
                Ok([("", only)]) => assert_eq!(got.unwrap(), Shares::OfTheOnly(weight(*only)), "{line}"),
                Ok(named) => {
                    let shares =
                        named.iter().map(|(name, share)| ((*name).to_owned(), weight(*share))).collect();
                    assert_eq!(got.unwrap(), Shares::ByService(shares), "{line}");
                }
                Err(message) => assert_eq!(got.unwrap_err().to_string(), message, "{line}"),
            }
        }
        check("25%", Ok(&[("", 25_000)]));
        check("0", Ok(&[("", 0)]));
        check("shop 25%", Ok(&[("shop", 25_000)]));
        check("5% 10%", Ok(&[("5%", 10_000)]));
        check("shop=25%", Ok(&[("shop", 25_000)]));
        check("shop=25% cart=0.1%", Ok(&[("cart", 100), ("shop", 25_000)]));
        check("shop", Err("\"shop\" alone says no share; write `tidegate shift shop 25%`"));
        check("25", Err("a share needs its unit; did you mean 25%?"));
        check("101%", Err("101% is outside 0% to 100%"));
        check("shop 25", Err("shop: a share needs its unit; did you mean 25%?"));
        check("shop=-1%", Err("shop: -1% is outside 0% to 100%"));
        check("shop=0.0001%", Err("shop: 0.0001% is finer than the smallest step, 0.001%"));
        check("shop=", Err("shop: \"\" is not a share; write a percentage such as 25%, 0.1% or 0"));
        check("=5%", Err("a service cannot have an empty name"));
        check("shop=1% shop=2%", Err("\"shop=2%\" names a service for the second time"));
        let not_a_pair = "\"cart\" is not SERVICE=SHARE; write for instance shop=25% cart=10%";
        check("shop=1% cart", Err(not_a_pair));
        check("cart 1% shop", Err(not_a_pair));
    }

    #[test]
    fn a_deployment_is_a_service_and_its_endpoints() {
        #[track_caller]
        fn check(line: &str, expected: Result<(Option<&str>, &[&str]), &str>) {
            let got = Deployment::parse(&words(line));
            match expected {
                Ok((service, endpoints)) => {
                    let got = got.unwrap();
                    assert_eq!(
                        (got.service.as_deref(), got.endpoints),
                        (service, words(&endpoints.join(" "))),
                        "{line}"
                    );
                }
                Err(message) => assert!(got.unwrap_err().to_string().contains(message), "{line}"),
            }
        }
        check("shop http://a:1", Ok((Some("shop"), &["http://a:1"])));
        check("shop http://a:1 http://b:2", Ok((Some("shop"), &["http://a:1", "http://b:2"])));
        check("http://a:1 http://b:2", Ok((None, &["http://a:1", "http://b:2"])));
        check("shop unix:/run/a.sock", Ok((Some("shop"), &["unix:/run/a.sock"])));
        check("shop", Err("no endpoint"));
        check("shop a:1", Err("did you mean http://a:1?"));
        check("http://a:1 b:2", Err("did you mean http://b:2?"));
    }

    #[test]
    fn endpoints_are_named_with_their_variant() {
        #[track_caller]
        fn check(line: &str, expected: Result<(Option<&str>, Variant, &[&str]), &str>) {
            let got = Places::parse(&words(line));
            match expected {
                Ok((service, variant, endpoints)) => {
                    let got = got.unwrap();
                    let endpoints = words(&endpoints.join(" "));
                    assert_eq!((got.service.as_deref(), got.variant), (service, variant), "{line}");
                    assert_eq!(got.endpoints, endpoints, "{line}");
                }
                Err(message) => assert!(got.unwrap_err().to_string().contains(message), "{line}"),
            }
        }
        check("shop green http://a:1", Ok((Some("shop"), Variant::Green, &["http://a:1"])));
        check("blue http://a:1 unix:/run/a", Ok((None, Variant::Blue, &["http://a:1", "unix:/run/a"])));
        check("green blue http://a:1", Ok((Some("green"), Variant::Blue, &["http://a:1"])));
        check("shop http://a:1", Err("\"shop\" is no variant"));
        check("http://a:1", Err("name blue or green"));
        check("shop green", Err("no endpoint"));
        check("shop green a:1", Err("did you mean http://a:1?"));
        check("green http://a:1 b:1", Err("did you mean http://b:1?"));
    }

    #[test]
    fn a_tester_goes_to_a_variant() {
        assert_eq!(tester(&words("green")).unwrap(), (None, Variant::Green));
        assert_eq!(tester(&words("shop blue")).unwrap(), (Some("shop".to_owned()), Variant::Blue));
        assert_eq!(
            tester(&words("shop")).unwrap_err().to_string(),
            "\"shop\" is no variant; it is `blue` or `green`"
        );
    }
}
