//! The path under which the gateway is reached, if a proxy serves it beside others: `/meter` of
//! `https://example.com/meter/`.
//!
//! Some proxies strip the path before they forward a request, some leave it. Both work: a request is answered
//! with and without the path.

use axum::{
    Router,
    extract::{Request, State},
    http::{StatusCode, Uri, header, uri::PathAndQuery},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use url::Url;

/// Without a trailing slash; empty if the gateway has an origin of its own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BasePath(String);

/// What to do with a path.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    /// Answer it unchanged.
    Stay,
    /// Answer this path instead.
    Rewrite(String),
    /// Redirect here: the page refers to its files by relative paths, so its own must end with a slash.
    Redirect(String),
}

impl BasePath {
    /// The path of the gateway's public address.
    pub fn of(public_url: Option<&Url>) -> Self {
        Self(public_url.map(|url| url.path().trim_end_matches('/').to_owned()).unwrap_or_default())
    }

    /// Whether there is none.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The path for cookies, so that they are not sent to other services on the same host.
    pub fn cookie_path(&self) -> &str {
        if self.is_root() { "/" } else { &self.0 }
    }

    fn turn(&self, path_and_query: &str) -> Turn {
        match path_and_query.strip_prefix(&self.0) {
            Some(rest) if rest.starts_with('/') => Turn::Rewrite(rest.to_owned()),
            Some(rest) if rest.is_empty() || rest.starts_with('?') => {
                Turn::Redirect(format!("{}/{rest}", self.0))
            }
            _ => Turn::Stay,
        }
    }
}

/// Lets the router answer under the path as well.
pub fn under(base: &BasePath, router: Router) -> Router {
    if base.is_root() {
        return router;
    }
    // Routes are matched inside the fallback, after the path is stripped: a layer of the router itself runs
    // too late.
    let outer = Router::new().fallback_service(router);
    outer.layer(middleware::from_fn_with_state(base.clone(), take_off))
}

async fn take_off(State(base): State<BasePath>, mut request: Request, next: Next) -> Response {
    let path_and_query = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
    match base.turn(path_and_query) {
        Turn::Stay => {}
        Turn::Redirect(to) => {
            return (StatusCode::PERMANENT_REDIRECT, [(header::LOCATION, to)]).into_response();
        }
        Turn::Rewrite(rest) => {
            if let Ok(uri) = rest.parse::<Uri>() {
                *request.uri_mut() = uri;
            }
        }
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(url: &str) -> BasePath {
        BasePath::of(Some(&url.parse().unwrap()))
    }

    #[test]
    fn the_path_of_the_public_address_may_end_with_a_slash() {
        for url in ["https://example.com/meter", "https://example.com/meter/"] {
            assert_eq!(base(url).cookie_path(), "/meter");
        }
        for root in [BasePath::of(None), base("https://example.com"), base("https://example.com/")] {
            assert!(root.is_root());
            assert_eq!(root.cookie_path(), "/");
        }
    }

    #[test]
    fn the_path_is_stripped_only_as_a_prefix() {
        let base = base("https://example.com/a/meter/");
        let turn = |path: &str| base.turn(path);
        assert_eq!(turn("/a/meter/v1/usage?x=/a/meter"), Turn::Rewrite("/v1/usage?x=/a/meter".to_owned()));
        assert_eq!(turn("/a/meter/"), Turn::Rewrite("/".to_owned()));
        assert_eq!(turn("/a/meter//evil.example"), Turn::Rewrite("//evil.example".to_owned()));
        assert_eq!(turn("/a/meter"), Turn::Redirect("/a/meter/".to_owned()));
        assert_eq!(turn("/a/meter?x=1"), Turn::Redirect("/a/meter/?x=1".to_owned()));
        assert_eq!(turn("/a/meters"), Turn::Stay);
        assert_eq!(turn("/v1/usage"), Turn::Stay);
    }
}
