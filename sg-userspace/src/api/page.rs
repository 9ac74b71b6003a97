//! Long answers in pages: by token, or by number as older clients ask.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::{
    error::{self, ApiError},
    params::Params,
};

/// How long pages may be.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// When the caller does not say.
    pub default: usize,
    /// None is shorter.
    pub least: usize,
    /// None is longer.
    pub most: usize,
    /// Whether sizes beyond these are brought to them, as the documentation of some
    /// actions says; else they are refused.
    pub clamped: bool,
    /// Whether pages have numbers when the caller says nothing of them.
    pub numbered: bool,
}

/// A page of items, each with the text it is sorted by; they come in that order,
/// ascending or descending. What an answer says of the page is added to it.
///
/// # Errors
/// A token, size or number that is none.
pub fn page<T>(
    items: Vec<(String, T)>,
    descending: bool,
    sizes: Sizes,
    p: &Params,
    answer: &mut Map<String, Value>,
) -> Result<Vec<T>, ApiError> {
    let number = |name: &str, kind: error::Kind| match p.get(name) {
        None => Ok(None),
        Some(text) => text.parse::<usize>().ok().filter(|n| *n > 0).map(Some).ok_or_else(|| kind.of(name)),
    };
    let size = number("MaxResults", error::MAX_RESULTS)?;
    let token = p.get("NextToken");
    let mut items = items;
    items.sort_by(|a, b| if descending { b.0.cmp(&a.0) } else { a.0.cmp(&b.0) });
    if size.is_none()
        && token.is_none()
        && (p.get("PageNumber").is_some() || p.get("PageSize").is_some() || sizes.numbered)
    {
        let size = number("PageSize", error::PAGE)?.unwrap_or(10);
        if size > sizes.most {
            return Err(error::PAGE.into());
        }
        let page = number("PageNumber", error::PAGE)?.unwrap_or(1);
        answer.insert("TotalCount".into(), items.len().into());
        answer.insert("PageNumber".into(), page.into());
        answer.insert("PageSize".into(), size.into());
        let rest = items.into_iter().skip((page - 1).saturating_mul(size));
        return Ok(rest.take(size).map(|(_, item)| item).collect());
    }
    if !sizes.clamped && size.is_some_and(|size| !(sizes.least..=sizes.most).contains(&size)) {
        return Err(error::MAX_RESULTS.of("MaxResults"));
    }
    let size = size.unwrap_or(sizes.default).clamp(sizes.least, sizes.most);
    let start = match token {
        None => 0,
        Some(token) => {
            let last = BASE64_URL_SAFE_NO_PAD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let last = last.ok_or(error::NEXT_TOKEN)?;
            // What was the last one may be gone.
            items.partition_point(|(key, _)| if descending { *key >= last } else { *key <= last })
        }
    };
    let more = items.len() > start + size;
    let page: Vec<(String, T)> = items.into_iter().skip(start).take(size).collect();
    let next = page.last().filter(|_| more).map(|(key, _)| BASE64_URL_SAFE_NO_PAD.encode(key)).unwrap_or_default();
    answer.insert("NextToken".into(), next.into());
    Ok(page.into_iter().map(|(_, item)| item).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: Sizes = Sizes { default: 10, least: 2, most: 50, clamped: false, numbered: true };

    fn ask(
        pairs: &[(&str, &str)],
        count: usize,
        descending: bool,
    ) -> Result<(Vec<usize>, Map<String, Value>), ApiError> {
        let mut answer = Map::new();
        let items = (0..count).map(|i| (format!("{i:03}"), i)).collect();
        let p: Params = pairs.iter().copied().collect();
        page(items, descending, SIZES, &p, &mut answer).map(|items| (items, answer))
    }

    #[test]
    fn tokens_lead_through_all() {
        for descending in [false, true] {
            let (mut seen, mut token) = (Vec::new(), String::new());
            loop {
                let (items, answer) = ask(&[("MaxResults", "7"), ("NextToken", &token)], 23, descending).unwrap();
                assert!(!answer.contains_key("TotalCount"));
                seen.extend(items);
                token = answer["NextToken"].as_str().unwrap().to_owned();
                if token.is_empty() {
                    break;
                }
            }
            let mut all: Vec<usize> = (0..23).collect();
            if descending {
                all.reverse();
            }
            assert_eq!(seen, all);
        }
    }

    #[test]
    fn numbers_lead_through_all() {
        let (items, answer) = ask(&[("PageNumber", "3"), ("PageSize", "10")], 23, false).unwrap();
        assert_eq!(items, [20, 21, 22]);
        assert_eq!((&answer["TotalCount"], &answer["PageNumber"]), (&Value::from(23), &Value::from(3)));
        assert!(ask(&[("PageNumber", "9999999999")], 23, false).unwrap().0.is_empty());
        for bad in
            [("PageNumber", "0"), ("PageSize", "51"), ("PageSize", "x"), ("MaxResults", "-1"), ("NextToken", "?")]
        {
            assert!(ask(&[bad], 23, false).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn sizes_beyond_the_bounds_are_refused_or_brought_to_them() {
        let sized = |size: &str, clamped: bool| {
            let items = (0..100).map(|i| (format!("{i:03}"), i)).collect();
            let p: Params = [("MaxResults", size)].into_iter().collect();
            page(items, false, Sizes { clamped, ..SIZES }, &p, &mut Map::new()).map(|page: Vec<usize>| page.len()).ok()
        };
        for (size, refusing, clamping) in
            [("1", None, Some(2)), ("2", Some(2), Some(2)), ("50", Some(50), Some(50)), ("51", None, Some(50))]
        {
            assert_eq!((sized(size, false), sized(size, true)), (refusing, clamping), "{size}");
        }
    }
}
