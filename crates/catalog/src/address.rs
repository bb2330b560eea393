//! Addresses that people paste for an n8n: an address of its API or of an editor page becomes the instance's.

use url::{Host, Url};

/// Path of n8n's public API, below the instance's address.
const API: [&str; 2] = ["api", "v1"];

/// First path segments of n8n's editor pages. Whatever precedes them is the instance's own path.
const EDITOR_PAGES: [&[&str]; 20] = [
    &["home", "workflows"],
    &["home", "credentials"],
    &["home", "executions"],
    &["home", "variables"],
    &["home", "datatables"],
    &["workflow", ANY],
    &["workflows"],
    &["executions"],
    &["projects", ANY, "workflows"],
    &["projects", ANY, "credentials"],
    &["projects", ANY, "executions"],
    &["projects", ANY, "settings"],
    &["settings", ANY],
    &["insights"],
    &["signin"],
    &["signup"],
    &["forgot-password"],
    &["setup"],
    &["rest", "login"],
    &["healthz"],
];

/// Any path segment, such as a workflow's id.
const ANY: &str = "*";

/// The address of the instance: without the API's path, which every request adds, and without empty parts.
pub(crate) fn of_instance(mut url: Url) -> Url {
    let parts = parts(&url);
    let has_empty = url.path().contains("//");
    let api = parts.windows(API.len()).position(|window| window == API);
    if api.is_none() && !has_empty {
        return url;
    }
    let path = parts.get(..api.unwrap_or(parts.len())).unwrap_or_default().join("/");
    url.set_path(&path);
    url
}

/// The instance whose editor shows a page at this address; `None` if it is not an editor page.
pub fn of_editor_page(url: &Url) -> Option<Url> {
    let parts = parts(url);
    let is_page = |from: usize| {
        let rest = parts.get(from..).unwrap_or_default();
        EDITOR_PAGES.iter().any(|page| {
            let is_part = |(part, page): (&String, &&str)| *page == ANY || part == page;
            rest.len() >= page.len() && rest.iter().zip(*page).all(is_part)
        })
    };
    let place = (0..parts.len()).find(|from| is_page(*from))?;
    let mut instance = url.clone();
    instance.set_path(&parts.get(..place).unwrap_or_default().join("/"));
    Some(instance)
}

/// Where an instance is: equal for all addresses that lead to it. They differ at most in the scheme, a
/// default port, a trailing slash or dot, or the name of the local machine.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct InstancePlace {
    host: String,
    port: Option<u16>,
    path: Vec<String>,
}

impl InstancePlace {
    /// The place that this address leads to.
    pub fn of(url: &Url) -> Self {
        Self { host: host(url), port: url.port(), path: parts(url) }
    }
}

/// Whether two addresses lead to one instance.
pub fn is_same_instance(one: &Url, other: &Url) -> bool {
    InstancePlace::of(one) == InstancePlace::of(other)
}

/// The host, with one name for the local machine.
fn host(url: &Url) -> String {
    const ITSELF: &str = "localhost";
    match url.host() {
        Some(Host::Ipv4(address)) if address.is_loopback() => ITSELF.to_owned(),
        Some(Host::Ipv6(address)) if address.is_loopback() => ITSELF.to_owned(),
        Some(Host::Ipv6(address)) => match address.to_ipv4_mapped() {
            Some(mapped) if mapped.is_loopback() => ITSELF.to_owned(),
            Some(mapped) => mapped.to_string(),
            None => address.to_string(),
        },
        Some(host) => host.to_string().trim_end_matches('.').to_owned(),
        None => String::new(),
    }
}

fn parts(url: &Url) -> Vec<String> {
    url.path().split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn an_api_address_is_read_as_its_instance() {
        for (pasted, instance) in [
            ("https://n8n.example", "https://n8n.example/"),
            ("https://n8n.example/", "https://n8n.example/"),
            ("https://n8n.example/api/v1", "https://n8n.example/"),
            ("https://n8n.example/plain/api/v1/executions", "https://n8n.example/plain"),
            ("https://n8n.example//plain//", "https://n8n.example/plain"),
            ("https://n8n.example/plain/", "https://n8n.example/plain/"),
            ("http://[::1]:25431/plain", "http://[::1]:25431/plain"),
            ("http://n8n.münchen.example", "http://n8n.xn--mnchen-3ya.example/"),
        ] {
            assert_eq!(of_instance(url(pasted)).as_str(), instance, "{pasted}");
        }
    }

    #[test]
    fn one_instance_is_recognised_by_all_its_addresses() {
        let same =
            |one: &str, other: &str| is_same_instance(&of_instance(url(one)), &of_instance(url(other)));
        for other in [
            "https://N8N.example/",
            "https://n8n.example:443",
            "https://n8n.example.",
            "http://n8n.example:80/",
            "https://n8n.example/api/v1/",
        ] {
            assert!(same("https://n8n.example", other), "{other}");
        }
        for other in [
            "http://127.0.0.1:5678",
            "http://[::1]:5678/",
            "http://127.0.0.2:5678",
            "http://[::ffff:127.0.0.1]:5678",
            "http://LOCALHOST:5678/api/v1",
        ] {
            assert!(same("http://localhost:5678", other), "{other}");
        }
        assert!(same("https://n8n.example/plain", "https://n8n.example/plain/"));
        for other in ["https://n8n.example:8443", "https://n8n.example/other", "https://n8n.other"] {
            assert!(!same("https://n8n.example", other), "{other}");
        }
    }

    #[test]
    fn an_editor_page_leads_to_its_instance() {
        for (page, instance) in [
            ("https://n8n.example/home/workflows", "https://n8n.example/"),
            ("https://n8n.example/plain/home/workflows", "https://n8n.example/plain"),
            ("https://n8n.example/workflow/M9X5HgovH50n2vBc/executions", "https://n8n.example/"),
            ("https://n8n.example/signin", "https://n8n.example/"),
            ("https://n8n.example/plain/projects/VmwOO9HeTEj20kxM/credentials", "https://n8n.example/plain"),
            ("https://n8n.example/settings/api", "https://n8n.example/"),
        ] {
            assert_eq!(of_editor_page(&url(page)).map(String::from).as_deref(), Some(instance), "{page}");
        }
        for instance in [
            "https://n8n.example",
            "https://example.com/home",
            "https://example.com/workflow",
            "https://example.com/projects/n8n",
        ] {
            assert_eq!(of_editor_page(&url(instance)), None, "{instance}");
        }
    }
}
