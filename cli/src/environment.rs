//! References to environment variables in a file: `${NAME}`.

/// Looks up a variable.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A reference cannot be resolved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReference {
    /// The variable has no value.
    #[error("the environment variable {0} is not set, or is empty")]
    Unset(String),
    /// No closing brace.
    #[error("`${{` without `}}`")]
    Open,
}

/// The text with each `${NAME}` replaced by the variable's value.
pub fn substitute(text: &str, variable: Lookup<'_>) -> Result<String, InvalidReference> {
    let mut resolved = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, after) = after.split_once('}').ok_or(InvalidReference::Open)?;
        let value = variable(name).filter(|value| !value.is_empty());
        resolved.push_str(before);
        resolved.push_str(&value.ok_or_else(|| InvalidReference::Unset(name.to_owned()))?);
        rest = after;
    }
    resolved.push_str(rest);
    Ok(resolved)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(name: &str) -> Option<String> {
        match name {
            "URL" => Some("http://127.0.0.1:9000".to_owned()),
            "TRICKY" => Some("${URL}".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn values_are_put_in_once() {
        assert_eq!(substitute("${URL}/n8n/north", &variable).unwrap(), "http://127.0.0.1:9000/n8n/north");
        // A value is never read as a reference again.
        assert_eq!(substitute("a${TRICKY}b", &variable).unwrap(), "a${URL}b");
        assert_eq!(substitute("plain $x", &variable).unwrap(), "plain $x");
    }

    #[test]
    fn a_missing_value_is_an_error_that_names_it() {
        for name in ["MISSING", "EMPTY"] {
            let error = substitute(&format!("${{{name}}}"), &variable).unwrap_err();
            assert_eq!(error, InvalidReference::Unset(name.to_owned()));
        }
        assert_eq!(substitute("${URL", &variable), Err(InvalidReference::Open));
    }
}
