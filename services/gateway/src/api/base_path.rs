//! The path under which people reach the gateway, where a proxy puts it beside others: `/meter` of
//! `https://example.com/meter/`.
//!
//! Some proxies take the path off before they pass a request on, some leave it. Both work: a request is answered with
//! the path and without it.

use axum::{
    Router,
    extract::{Request, State},
    http::{StatusCode, Uri, header, uri::PathAndQuery},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use url::Url;

/// Without a slash at its end; empty where the gateway has an origin of its own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BasePath(String);

/// What to do with a path.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    /// It is answered as it is.
    Stay,
    /// It is answered as this.
    Rewrite(String),
    /// The page's files are named relative to it, and so it must end with a slash.
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

    /// Where cookies are sent: to us, and not to what else the proxy serves on the same host.
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

/// The router, answering under the path as well.
pub fn under(base: &BasePath, router: Router) -> Router {
    if base.is_root() {
        return router;
    }
    // Routes are matched inside the fallback, after the path was taken off: a layer of the router itself comes too late.
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
    fn the_path_of_the_public_address_counts_with_and_without_a_slash() {
        for url in ["https://example.com/meter", "https://example.com/meter/"] {
            assert_eq!(base(url).cookie_path(), "/meter");
        }
        for root in [BasePath::of(None), base("https://example.com"), base("https://example.com/")] {
            assert!(root.is_root());
            assert_eq!(root.cookie_path(), "/");
        }
    }

    #[test]
    fn the_path_is_taken_off_where_it_is_the_first_part() {
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
