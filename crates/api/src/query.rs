//! Query parameters: known ones only, each once, each checked.

use std::ops::RangeInclusive;

use crate::problem::Problem;

/// The parameters of one request.
#[derive(Debug)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query string that may have the parameters `known`.
    pub(crate) fn parse(text: &str, known: &[&str]) -> Result<Self, Problem> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for (name, value) in url::form_urlencoded::parse(text.as_bytes()) {
            if !known.contains(&name.as_ref()) {
                return Err(Problem::invalid("unknown_parameter", unknown(&name, known)).on(&name));
            }
            if pairs.iter().any(|(earlier, _)| *earlier == name) {
                let detail = format!("{name} is given twice");
                return Err(Problem::invalid("duplicate_parameter", detail).on(&name));
            }
            pairs.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self(pairs))
    }

    /// A parameter as it is.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// A parameter that is `true` or `false`.
    pub(crate) fn flag(&self, name: &str, default: bool) -> Result<bool, Problem> {
        match self.get(name) {
            None => Ok(default),
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(_) => Err(Problem::parameter(name, "must be true or false")),
        }
    }

    /// A parameter that is a whole number in a range.
    pub(crate) fn number(
        &self,
        name: &str,
        range: RangeInclusive<u32>,
        default: u32,
    ) -> Result<u32, Problem> {
        let value = self
            .whole(name)?
            .map_or(Some(default), |value| u32::try_from(value).ok());
        value.filter(|value| range.contains(value)).ok_or_else(|| {
            let what = format!("must be from {} to {}", range.start(), range.end());
            Problem::parameter(name, what)
        })
    }

    /// A parameter that is any whole number.
    pub(crate) fn whole(&self, name: &str) -> Result<Option<u64>, Problem> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        // The standard parser takes a sign too.
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            Ok(value) if digits => Ok(Some(value)),
            _ => Err(Problem::parameter(name, "must be a whole number")),
        }
    }
}

fn unknown(name: &str, known: &[&str]) -> String {
    if known.is_empty() {
        format!("unknown parameter {name:?}; none is known here")
    } else {
        format!("unknown parameter {name:?}; known are {}", known.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Result<u32, Problem> {
        Query::parse(text, &["limit"])?.number("limit", 1..=500, 50)
    }

    #[test]
    fn a_number_is_in_its_range_or_refused() {
        for (text, value) in [
            ("", 50),
            ("limit=1", 1),
            ("limit=500", 500),
            ("limit=007", 7),
        ] {
            assert_eq!(number(text).unwrap(), value, "{text:?}");
        }
        for bad in [
            "limit=0",
            "limit=501",
            "limit=-1",
            "limit=%2B1",
            "limit=1.0",
            "limit=1e2",
            "limit=",
            "limit",
            "limit=99999999999999999999",
            "limit=4294967297",
            "limit=%FF",
            "limit=1%00",
        ] {
            assert!(number(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn unknown_and_doubled_parameters_are_refused_by_name() {
        let unknown = Query::parse("a=1&limitt=2", &["a", "limit"]).unwrap_err();
        assert!(unknown.to_string().contains("limitt"), "{unknown}");
        let doubled = Query::parse("a=1&a=1", &["a"]).unwrap_err();
        assert!(
            doubled.to_string().contains("a is given twice"),
            "{doubled}"
        );
        assert!(Query::parse("x", &[]).is_err());
        assert!(Query::parse("&&", &[]).is_ok());
    }

    #[test]
    fn a_flag_is_true_or_false_and_nothing_else() {
        let flag = |text: &str| Query::parse(text, &["f"])?.flag("f", false);
        assert!(flag("f=true").unwrap());
        assert!(!flag("f=false").unwrap());
        assert!(!flag("").unwrap());
        for bad in ["f", "f=", "f=1", "f=TRUE", "f=yes"] {
            assert!(flag(bad).is_err(), "{bad:?}");
        }
    }
}
