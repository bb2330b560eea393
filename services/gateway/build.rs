//! Embeds the dashboard: every file in `dashboard/`, with its media type.

use std::{env, fmt::Write, fs, io, path::Path};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=dashboard");
    let manifest = env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?;
    let target = env::var("OUT_DIR").map_err(io::Error::other)?;
    let folder = Path::new(&manifest).join("dashboard");
    let mut paths =
        fs::read_dir(&folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?;
    paths.sort();
    let mut table = String::from("&[\n");
    for path in &paths {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        // Other files (notes, tests) are not for the browser.
        if let Some(media_type) = media_type(name) {
            println!("cargo::rerun-if-changed={}", path.display());
            writeln!(
                table,
                "Asset {{ name: {name:?}, media_type: {media_type:?}, bytes: include_bytes!({path:?}) }},"
            )
            .map_err(io::Error::other)?;
        }
    }
    table.push(']');
    fs::write(Path::new(&target).join("dashboard.rs"), table)
}

fn media_type(name: &str) -> Option<&'static str> {
    match name.rsplit_once('.')?.1 {
        "html" => Some("text/html; charset=utf-8"),
        "css" => Some("text/css; charset=utf-8"),
        "js" => Some("text/javascript; charset=utf-8"),
        "svg" => Some("image/svg+xml"),
        "png" => Some("image/png"),
        "woff2" => Some("font/woff2"),
        _ => None,
    }
}
