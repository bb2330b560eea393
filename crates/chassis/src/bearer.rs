//! The token that a request carries. The only place that reads it, so that every service refuses the same.

use axum::http::HeaderMap;
use axum_extra::headers::{Authorization, HeaderMapExt, authorization::Bearer};
use secrecy::SecretString;

/// The token of `Authorization: Bearer ...`; `None` for any other scheme and for a header that cannot be read.
pub fn bearer(headers: &HeaderMap) -> Option<SecretString> {
    headers.typed_get::<Authorization<Bearer>>().map(|sent| sent.token().trim_end().into())
}

#[cfg(test)]
mod tests {
    use axum::http::header::AUTHORIZATION;
    use secrecy::ExposeSecret;

    use super::*;

    fn token(sent: &str) -> Option<String> {
        let headers = HeaderMap::from_iter([(AUTHORIZATION, sent.parse().unwrap())]);
        bearer(&headers).map(|token| token.expose_secret().to_owned())
    }

    #[test]
    fn only_the_bearer_scheme_carries_a_token() {
        for sent in ["Bearer secret", "bearer secret", "BEARER  secret"] {
            assert_eq!(token(sent).as_deref(), Some("secret"), "{sent}");
        }
        for sent in ["Basic secret", "secret", "Bearersecret", "Token secret", ""] {
            assert_eq!(token(sent), None, "{sent}");
        }
        assert!(bearer(&HeaderMap::new()).is_none());
    }
}
