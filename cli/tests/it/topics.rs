//! What `docs/topics.md` promises is what there is.

use proto::{
    Namespace,
    streams::{Capacity, Stream},
};

#[test]
fn every_stream_and_subject_is_documented() {
    let topics = include_str!("../../../docs/topics.md");
    let namespace = Namespace::default();
    for stream in Stream::ALL {
        let config = stream.config(&namespace, Capacity::default());
        assert!(topics.contains(&config.name), "docs/topics.md does not name the stream {}", config.name);
        for subject in config.subjects {
            let subject = subject.trim_end_matches('>');
            assert!(topics.contains(subject), "docs/topics.md does not name the subject {subject}");
        }
    }
}
