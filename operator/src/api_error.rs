//! What an error of the API server, or of the way to it, says in one line. Pure.
//!
//! The Display of kube's errors has the source's text in it already, and a dump of the whole answer beside it.

use livepatch_crds::bounded::{MAX_MESSAGE, bounded};

/// One line: the API server's own words, or what failed on the way.
pub fn words(error: &kube::Error) -> String {
    let words = match error {
        kube::Error::Api(status) if status.message.is_empty() => format!("{} {}", status.code, status.reason),
        kube::Error::Api(status) => format!("{} {}", status.code, status.message),
        kube::Error::Service(source) => {
            let mut words = source.to_string();
            let mut source = source.source();
            while let Some(error) = source {
                words = format!("{words}: {error}");
                source = error.source();
            }
            words
        }
        error => error.to_string(),
    };
    bounded(words.trim(), MAX_MESSAGE)
}

#[cfg(test)]
mod tests {
    use super::words;
    use kube::core::Status;
    use std::io;

    #[test]
    fn an_answer_is_its_code_and_message() {
        let status = Status::failure("nodes is forbidden", "Forbidden").with_code(403);
        assert_eq!(words(&kube::Error::Api(status.boxed())), "403 nodes is forbidden");
        let status = Status::failure("", "Gone").with_code(410);
        assert_eq!(words(&kube::Error::Api(status.boxed())), "410 Gone");
    }

    #[test]
    fn a_broken_way_is_told_with_its_cause() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert_eq!(words(&kube::Error::Service(Box::new(refused))), "connection refused");
    }
}
