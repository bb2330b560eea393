//! `docs/topics.md` names every stream and subject.

use proto::{
    Namespace,
    streams::{Capacity, Stream},
};

#[test]
fn every_stream_and_subject_is_documented() {
    let topics = include_str!("../../../docs/topics.md");
    let namespace = Namespace::default();
    for stream in Stream::all() {
        let config = stream.config(&namespace, Capacity::default());
        if let Stream::Executions(partition) = stream {
            let number = format!("_{partition}");
            assert!(topics.contains(&config.name.replace(&number, "_<partition>")), "{}", config.name);
            let subjects = config.subjects.iter().map(|subject| {
                subject.replace(&format!(".{partition}."), ".<partition>.").trim_end_matches('>').to_owned()
            });
            assert!(subjects.into_iter().all(|subject| topics.contains(&subject)), "{:?}", config.subjects);
            continue;
        }
        assert!(topics.contains(&config.name), "docs/topics.md does not name the stream {}", config.name);
        for subject in config.subjects {
            let subject = subject.trim_end_matches('>');
            assert!(topics.contains(subject), "docs/topics.md does not name the subject {subject}");
        }
    }
}
