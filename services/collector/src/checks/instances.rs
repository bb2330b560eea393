//! Which n8n instances push with a source's token. No I/O, no clock of its own.
//!
//! One token belongs to one instance. Two databases hand out the same execution ids, so with one token the
//! second's runs would be taken for repeats of the first's. An instance with the tokens of two sources is
//! counted twice. The processes of one instance (main, workers, webhook processes) share one id.
//!
//! An instance that replaces another is no fault: it begins when the other has ended. So two of them count as
//! two only if both have pushed within an hour and each continued after the other had begun.

use jiff::{SignedDuration, Timestamp};

/// Instances of one source that are remembered; whoever holds the token may make ids up.
pub const INSTANCES_MAX: usize = 8;

/// An instance that has not pushed for this long does not push any more.
pub const PUSHES_FOR: SignedDuration = SignedDuration::from_hours(1);

/// An instance is forgotten this long after its last push.
pub const KEPT_FOR: SignedDuration = SignedDuration::from_hours(24);

/// Longest id of an instance, in bytes; n8n's are 64.
const ID_BYTES_MAX: usize = 128;

/// The id of an n8n instance, as its hook sends it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct InstanceId(String);

impl InstanceId {
    /// `None` if the text is no id.
    pub fn parse(text: &str) -> Option<Self> {
        let is_id =
            (1..=ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_id.then(|| Self(text.to_owned()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// When an instance has pushed with a source's token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its id.
    pub instance: String,
    /// The first push of a series without a long pause.
    pub first: Timestamp,
    /// The last push.
    pub last: Timestamp,
}

impl Seen {
    /// Whether each continued after the other had begun.
    fn meets(&self, other: &Self) -> bool {
        self.last > other.first && other.last > self.first
    }
}

/// The instances among `seen` that push at the same time as another, in the order of `seen`. All have pushed
/// within [`PUSHES_FOR`].
pub fn beside_each_other(seen: &[Seen]) -> Vec<String> {
    let beside =
        seen.iter().filter(|one| seen.iter().any(|other| other.instance != one.instance && one.meets(other)));
    beside.map(|one| one.instance.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(instance: &str, first: i64, last: i64) -> Seen {
        let at = |second| Timestamp::from_second(second).unwrap();
        Seen { instance: instance.to_owned(), first: at(first), last: at(last) }
    }

    #[test]
    fn instances_that_take_turns_are_two_and_one_that_replaces_another_is_not() {
        let both = [seen("a", 0, 60), seen("b", 10, 10)];
        assert_eq!(beside_each_other(&both), ["a", "b"]);
        assert!(beside_each_other(&[seen("a", 0, 60), seen("b", 60, 120)]).is_empty(), "it was replaced");
        assert!(beside_each_other(&[seen("a", 0, 60)]).is_empty());
        let third = [seen("a", 0, 60), seen("b", 10, 70), seen("c", 80, 90)];
        assert_eq!(beside_each_other(&third), ["a", "b"]);
    }

    #[test]
    fn an_id_is_short_and_printable() {
        assert!(InstanceId::parse(&"f".repeat(64)).is_some());
        for bad in ["", "a b", "ä", "a\n", &"f".repeat(129)] {
            assert_eq!(InstanceId::parse(bad), None, "{bad:?}");
        }
    }
}
