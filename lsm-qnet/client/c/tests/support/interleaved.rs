//! A transcript that two programs print together.

/// Whether the lines of `one` and of `other`, each in its order, make up `whole`.
pub(crate) fn is_made_of(whole: &str, one: &str, other: &str) -> bool {
    fn lines(whole: &[&str], one: &[&str], other: &[&str]) -> bool {
        let Some((line, rest)) = whole.split_first() else { return one.is_empty() && other.is_empty() };
        one.split_first().is_some_and(|(first, left)| first == line && lines(rest, left, other))
            || other.split_first().is_some_and(|(first, left)| first == line && lines(rest, one, left))
    }
    let [whole, one, other] = [whole, one, other].map(|text| text.lines().collect::<Vec<_>>());
    lines(&whole, &one, &other)
}
