//! Errors in words, for logs and conditions.

/// The whole chain of causes in one line.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = match cause.downcast_ref::<kube::Error>() {
            Some(kube::Error::Api(status)) => status.message.clone(),
            _ => cause.to_string(),
        };
        text = format!("{text}: {said}");
        // kube's own chain repeats itself.
        source = if cause.is::<kube::Error>() {
            None
        } else {
            cause.source()
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    #[test]
    fn an_answer_of_the_api_server_is_told_once_and_without_its_parts() {
        let status = Status {
            code: 403,
            message: "exceeded quota".to_owned(),
            ..Status::default()
        };
        let error = crate::apply::Error::Apply {
            kind: "Service".to_owned(),
            name: "x".to_owned(),
            source: kube::Error::Api(Box::new(status)),
        };
        assert_eq!(causes(&error), "could not apply Service x: exceeded quota");
    }
}
