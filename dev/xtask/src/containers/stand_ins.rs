//! What takes the place of images that cannot be pulled: see dev/xtask/containers/README.md.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use stack::{Project, binaries, install};

use super::{BUILT, docker::Docker};

const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Docker's builder that the Compose program asks for. The one of the engine's own release is too old for it.
const BUILDER: Root = Root { name: "builder", suite: "forky", packages: &["docker-buildx"], hook: None };
const BUILDER_PATH: &str = "usr/libexec/docker/cli-plugins/docker-buildx";

/// A file system made of Debian's packages, without running their scripts.
struct Root {
    name: &'static str,
    suite: &'static str,
    packages: &'static [&'static str],
    /// A shell command on the folder `$1`.
    hook: Option<&'static str>,
}

/// The bases of the stand-ins.
const ROOTS: [Root; 4] = [
    Root {
        name: "busybox",
        suite: "bookworm",
        packages: &["busybox-static"],
        hook: Some(
            "mkdir -p \"$1/usr/local/bin\" \"$1/tmp\" && for name in sh cat cp mkdir wget ls; do ln -s busybox \"$1/bin/$name\"; done",
        ),
    },
    Root {
        name: "libraries",
        suite: "bookworm",
        packages: &["base-files", "netbase", "tzdata", "libc6", "libgcc-s1", "libstdc++6", "ca-certificates"],
        // What the packages' scripts would do, and away with what the certificates' scripts are written in.
        hook: Some(
            "mkdir -p \"$1/etc/ssl/certs\" && cat \"$1\"/usr/share/ca-certificates/mozilla/*.crt >\"$1/etc/ssl/certs/ca-certificates.crt\" \
             && rm -rf \"$1\"/usr/bin/* \"$1\"/usr/sbin/* \"$1\"/usr/lib/x86_64-linux-gnu/perl* \"$1\"/usr/share/perl* \"$1\"/usr/share/doc \
             \"$1\"/usr/share/man \"$1\"/usr/share/debconf \"$1\"/var/lib/dpkg \"$1\"/var/cache/*",
        ),
    },
    Root {
        name: "postgres",
        suite: "trixie",
        packages: &["base-files", "postgresql-17", "coreutils", "dash", "util-linux"],
        hook: Some("rm -rf \"$1\"/usr/share/doc \"$1\"/usr/share/man \"$1\"/var/cache/*"),
    },
    Root {
        name: "caddy",
        suite: "bookworm",
        packages: &["caddy"],
        hook: Some(
            "rm -rf \"$1\"/usr/share/doc \"$1\"/var/cache/*; mkdir -p \"$1/config\" \"$1/data\" \"$1/tmp\"",
        ),
    },
];

/// A recipe in dev/xtask/containers, the image whose place it takes, and its base.
const IMAGES: [(&str, &str); 5] = [
    ("rust", "rust:1.95-bookworm"),
    ("distroless", "gcr.io/distroless/cc-debian12:nonroot"),
    ("nats", "nats:2.15-alpine"),
    ("postgres", "postgres:17"),
    ("caddy", "caddy:2-alpine"),
];

/// The images whose place is taken.
pub fn names() -> String {
    IMAGES.map(|(_, image)| image).join(", ")
}

/// The bases, kept for the next run.
pub struct StandIns {
    kept: PathBuf,
    recipes: PathBuf,
    broker: PathBuf,
}

impl StandIns {
    /// Fetches what is missing.
    pub fn prepare(project: &Project) -> Result<Self> {
        let kept = project.tools().join("containers");
        fs::create_dir_all(&kept).with_context(|| format!("cannot create {}", kept.display()))?;
        for root in ROOTS.iter().chain([&BUILDER]) {
            root.make(&kept)?;
        }
        let broker = install::pinned_nats(project)?;
        Ok(Self { kept, recipes: project.root().join("dev/xtask/containers"), broker })
    }

    /// The builder's archive.
    pub fn builder(&self) -> PathBuf {
        BUILDER.archive(&self.kept)
    }

    /// Lays everything out for [`load`], which has no network.
    pub fn lay_out(&self, folder: &Path, built: &Path) -> Result<()> {
        let target = folder.join("stand-ins");
        fs::create_dir_all(&target).context("cannot create the folder of the stand-ins")?;
        for root in &ROOTS {
            let archive = root.archive(&self.kept);
            fs::copy(&archive, target.join(root.name).with_extension("tar"))
                .with_context(|| format!("cannot copy {}", archive.display()))?;
        }
        for (recipe, _) in IMAGES {
            copy_folder(&self.recipes.join(recipe), &target.join(recipe))?;
        }
        fs::copy(&self.broker, target.join("nats/nats-server")).context("cannot copy nats-server")?;
        let programs = target.join("rust/built");
        fs::create_dir_all(&programs).context("cannot create the folder of the programs")?;
        for name in BUILT {
            let from = built.join(name);
            // As the release profile does: what debuggers need is most of such a file.
            let mut strip = Command::new("strip");
            strip.arg("--strip-debug").arg("-o").arg(programs.join(name)).arg(&from);
            if !binaries::run(&mut strip)?.success() {
                bail!("{} is missing or no program: build it first, without --no-build", from.display());
            }
        }
        Ok(())
    }
}

/// Makes the stand-ins in the engine, under the names of the images.
pub fn load(docker: &Docker, folder: &Path) -> Result<()> {
    let source = folder.join("stand-ins");
    for root in &ROOTS {
        let archive = source.join(root.name).with_extension("tar");
        docker.run(&["import", &archive.display().to_string(), &format!("stand-in-{}", root.name)])?;
        fs::remove_file(&archive).context("cannot remove an archive")?;
    }
    for (recipe, image) in IMAGES {
        docker.run(&[
            "buildx",
            "build",
            "--quiet",
            "--tag",
            image,
            &source.join(recipe).display().to_string(),
        ])?;
    }
    Ok(())
}

impl Root {
    fn archive(&self, kept: &Path) -> PathBuf {
        // A change of the recipe is another file.
        let recipe: String = self.packages.concat() + self.hook.unwrap_or_default();
        let sum = recipe.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        kept.join(format!("{}-{}-{sum:08x}.tar", self.suite, self.name))
    }

    fn make(&self, kept: &Path) -> Result<()> {
        let archive = self.archive(kept);
        if archive.exists() {
            return Ok(());
        }
        println!("Fetching {} of Debian {}", self.packages.join(", "), self.suite);
        let draft = archive.with_extension("draft.tar");
        let mut make = Command::new("mmdebstrap");
        make.args(["--quiet", "--variant=extract", "--format=tar"]);
        // A mirror may be a snapshot, whose lists have expired; the packages are signed all the same.
        make.arg("--aptopt=Acquire::Check-Valid-Until \"false\"");
        make.arg(format!("--include={}", self.packages.join(",")));
        make.args(self.hook.map(|hook| format!("--extract-hook={hook}")));
        make.arg(self.suite).arg(&draft).arg(format!(
            "deb [signed-by={KEYS}] {} {} main",
            mirror()?,
            self.suite
        ));
        if !binaries::run(&mut make)?.success() {
            bail!("mmdebstrap cannot fetch {} of Debian {}", self.packages.join(", "), self.suite);
        }
        fs::rename(&draft, &archive).with_context(|| format!("cannot write {}", archive.display()))
    }
}

/// Where this machine's apt takes Debian's packages from.
fn mirror() -> Result<String> {
    let mut apt = Command::new("apt-get");
    apt.args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]);
    let output = apt.output().context("cannot start apt-get")?;
    let listed = String::from_utf8_lossy(&output.stdout);
    // The archive of security updates has a path of its own, and not every suite.
    let mirror = listed.lines().find(|address| address.trim_end_matches('/').ends_with("/debian"));
    Ok(mirror
        .context("apt is not configured with an archive of Debian: see /etc/apt/sources.list")?
        .to_owned())
}

/// Takes the builder's program out of its archive.
pub fn extract_builder(archive: &Path, target: &Path) -> Result<()> {
    let scratch = target.with_extension("scratch");
    fs::create_dir_all(&scratch).context("cannot create a scratch folder")?;
    let mut unpack = Command::new("tar");
    unpack.arg("-C").arg(&scratch).arg("-xf").arg(archive).arg(format!("./{BUILDER_PATH}"));
    if !binaries::run(&mut unpack)?.success() {
        bail!("{} has no {BUILDER_PATH}", archive.display());
    }
    fs::rename(scratch.join(BUILDER_PATH), target).context("cannot install the builder")?;
    fs::remove_dir_all(&scratch).context("cannot remove the scratch folder")
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        fs::copy(&path, to.join(name)).with_context(|| format!("cannot copy {}", path.display()))?;
    }
    Ok(())
}
