//! The example release, as its README runs it: a real database, a real app in two versions, a registry and a flag provider over HTTP.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serde_json::Value;
use tempfile::TempDir;
use tidegate::launch::{State, Step};

use crate::support::gate::new_folder;
use crate::support::program::run;
use crate::support::site::{Ended, columns};
use crate::support::{Book, connect, get};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/examples/shop");

/// The example in a folder of its own, until it is dropped.
struct Shop {
    folder: Arc<TempDir>,
    /// Where visitors go.
    address: String,
}

impl Shop {
    /// `./up`.
    async fn up() -> Self {
        let mut shop = Self { folder: new_folder(), address: String::new() };
        copy(Path::new(EXAMPLE), shop.folder.path());
        let said = shop.sh("./up").await.with(0);
        let address = said.split_once("http://").and_then(|(_, rest)| rest.split_once(';'));
        shop.address = address.unwrap_or_else(|| panic!("it does not say where it is: {said}")).0.to_owned();
        shop
    }

    /// The same with a canary for programs that watch.
    async fn up_in_a_hurry() -> Self {
        let shop = Self::up().await;
        shop.change("plan.yaml", "hold: 3s", "hold: 1s");
        shop.change("launch.yaml", "for: 5s", "for: 1s");
        shop
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Changes a file of the example.
    fn change(&self, name: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(name)).unwrap();
        assert!(text.contains(from), "{name} has no {from:?}");
        fs::write(self.path(name), text.replace(from, to)).unwrap();
    }

    fn book(&self) -> Book {
        Book::at(self.path("run/admin.sock"))
    }

    /// A command of it, not yet begun.
    fn command(&self, line: &str) -> Command {
        let tidegate = Path::new(env!("CARGO_BIN_EXE_tidegate"));
        let mut command = Command::new("sh");
        command.args(["-c", line]).current_dir(self.folder.path());
        command.env("TIDEGATE", tidegate).env("SHOP", app());
        command
            .env("TIDEGATE_LISTEN", "127.0.0.1:0")
            .env("TIDEGATE_TELEMETRY", "off")
            .env("NEIGHBOURS_PORT", "0");
        command
    }

    /// Runs a line, to its end.
    async fn sh(&self, line: &str) -> Ended {
        let mut command = self.command(line);
        tokio::task::spawn_blocking(move || {
            let output = command.output().unwrap();
            let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            Ended { code: output.status.code(), said }
        })
        .await
        .unwrap()
    }

    /// A line of `tidegate`, as somebody types it who has read the README.
    async fn tidegate(&self, line: &str) -> Ended {
        self.sh(&format!(". run/variables && tidegate {line}")).await
    }

    /// What a visitor sees.
    async fn version(&self) -> Value {
        let mut wire = connect(self.address.parse().unwrap()).await.unwrap();
        let answer = wire.ask(&get("/", &[])).await.unwrap();
        let seen: Value = serde_json::from_str(answer.text()).unwrap_or_default();
        seen["version"].clone()
    }

    fn columns(&self) -> Vec<String> {
        columns(&self.path("run/shop.db"), "items")
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        drop(self.command("./down").output());
    }
}

/// The app: built with all tests, and if only some are, then now.
fn app() -> PathBuf {
    static BUILT: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    BUILT
        .get_or_init(|| {
            let folder = Path::new(env!("CARGO_BIN_EXE_tidegate")).parent().unwrap();
            let app = folder.join("examples/shop");
            if !app.exists() {
                let mut build = Command::new(env!("CARGO"));
                build.args(["build", "--quiet", "--example", "shop"]).current_dir(env!("CARGO_MANIFEST_DIR"));
                if folder.ends_with("release") {
                    build.arg("--release");
                }
                assert!(build.status().unwrap().success(), "cargo build --example shop");
            }
            app
        })
        .clone()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, to) = {
            let entry = entry.unwrap();
            (entry.path(), to.join(entry.file_name()))
        };
        match path.is_dir() {
            true if path.ends_with("run") => {}
            true => copy(&path, &to),
            false => {
                fs::copy(&path, &to).unwrap();
                let mode = fs::metadata(&path).unwrap().permissions().mode();
                fs::set_permissions(&to, fs::Permissions::from_mode(mode)).unwrap();
            }
        }
    }
}

#[tokio::test]
async fn the_example_goes_through_and_its_report_says_what_happened() {
    let shop = Shop::up().await;
    assert_eq!(shop.version().await, "2.0.1");
    assert!(!shop.columns().contains(&"discount_percent".to_owned()));
    shop.tidegate("launch plan -f launch.yaml --book").await.with(0);
    let early = shop.tidegate("launch start -f launch.yaml").await.with(3);
    assert!(early.contains("tech-lead has not voted"), "{early}");
    shop.tidegate("launch vote shop-2.0.2 go --role tech-lead").await.with(0);
    let said = shop.tidegate("launch start -f launch.yaml").await.with(0);
    for id in ["expand", "deploy", "traffic", "observe"] {
        assert!(said.contains(id), "{id}: {said}");
    }
    assert_eq!(shop.book().state("shop-2.0.2").await, State::Completed);
    assert!(shop.columns().contains(&"discount_percent".to_owned()));
    assert_eq!(shop.tidegate("candidate shop").await.with(0).trim(), "blue", "green is stable");
    assert_eq!(shop.version().await, "2.0.2");

    let markdown = shop.tidegate("launch report shop-2.0.2").await.with(0);
    let lower = markdown.to_lowercase();
    for part in ["shop-2.0.2", "zero downtime", "smoke", "tech-lead", "p95"] {
        assert!(lower.contains(part), "{part} is missing:\n{markdown}");
    }
    let json = shop.tidegate("launch report shop-2.0.2 --format json").await.with(0);
    serde_json::from_str::<Value>(&json).unwrap_or_else(|error| panic!("{error}: {json}"));
    let html = shop.tidegate("launch report shop-2.0.2 --format html").await.with(0);
    assert!(html.contains("<html") && html.to_lowercase().contains("zero downtime"), "{html}");
    let again = shop.tidegate("launch start -f launch.yaml").await.with(3);
    assert!(again.contains("launch already in progress or completed"), "{again}");
}

#[tokio::test]
async fn the_example_in_the_older_form_goes_through() {
    let shop = Shop::up().await;
    shop.tidegate("launch start -f legacy.yaml").await.with(0);
    assert_eq!(shop.book().state("shop-2.0.2-legacy").await, State::Completed);
    assert!(shop.columns().contains(&"discount_percent".to_owned()));
    assert_eq!(shop.version().await, "2.0.2");
    let status = shop.tidegate("status shop --json").await.with(0);
    assert!(status.contains("100"), "{status}");
}

#[tokio::test]
async fn the_example_is_taken_back_when_the_new_version_breaks_under_observation() {
    let shop = Shop::up_in_a_hurry().await;
    shop.change("launch.yaml", "for: 1s", "for: 1h");
    shop.tidegate("launch plan -f launch.yaml --book && tidegate launch vote shop-2.0.2 go --role tech-lead")
        .await
        .with(0);
    let breaks = async {
        shop.book().has_begun("shop-2.0.2", 3, Step::Execute).await;
        fs::write(shop.path("run/broken-2.0.2"), "").unwrap();
    };
    let (ended, ()) = tokio::join!(shop.tidegate("launch start -f launch.yaml"), breaks);
    let said = ended.with(6);
    let phases = shop.book().phases("shop-2.0.2").await;
    let expected = ["expand VERIFIED", "deploy ROLLED_BACK", "traffic ROLLED_BACK", "observe"];
    assert!(
        phases.iter().zip(expected).all(|(phase, expected)| phase.starts_with(expected)),
        "{phases:?} {said}"
    );
    assert_eq!(shop.version().await, "2.0.1");
    assert_eq!(shop.tidegate("candidate shop").await.with(0).trim(), "green");
    // Code that knows nothing of the column gets on with it.
    assert!(shop.columns().contains(&"discount_percent".to_owned()));
    let flag = shop.sh(". run/variables && echo \"$FLAGS\"").await.with(0);
    let mut wire = connect(flag.trim().trim_start_matches("http://").parse().unwrap()).await.unwrap();
    let ask =
        "POST /ofrep/v1/evaluate/flags/new_checkout HTTP/1.1\r\nhost: flags\r\ncontent-length: 2\r\n\r\n{}";
    let answer = wire.ask(ask.as_bytes()).await.unwrap();
    assert!(answer.text().contains("\"value\":false"), "{}", answer.text());
}

#[tokio::test]
async fn an_image_that_is_not_the_pinned_one_is_not_deployed() {
    let shop = Shop::up().await;
    shop.change("run/variables", "DIGEST=sha256:", "DIGEST=sha256:00000000");
    let text = fs::read_to_string(shop.path("run/variables")).unwrap();
    let line = text.lines().find(|line| line.contains("DIGEST")).unwrap();
    let cut = &line[..line.len() - 8];
    shop.change("run/variables", line, cut);
    shop.tidegate("launch plan -f launch.yaml --book && tidegate launch vote shop-2.0.2 go --role tech-lead")
        .await
        .with(0);
    let said = shop.tidegate("launch start -f launch.yaml").await.with(6);
    assert!(said.contains("sha256:"), "{said}");
    assert_eq!(shop.version().await, "2.0.1");
    let phases = shop.book().phases("shop-2.0.2").await;
    assert_eq!(phases, ["expand VERIFIED", "deploy FAILED", "traffic SKIPPED", "observe SKIPPED"]);
}

#[tokio::test]
async fn the_recipe_for_ci_runs_the_example_and_hands_on_its_exit_code() {
    let shop = Shop::up_in_a_hurry().await;
    let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ci/release.sh");
    let votes = async {
        let book = shop.book();
        book.has_noted("shop-2.0.2", 1).await;
        shop.tidegate("launch vote shop-2.0.2 go --role tech-lead").await.with(0);
    };
    let line =
        format!(". run/variables && UPLOAD='cp \"$1\" run/uploaded.md' PAUSE=1 sh '{recipe}' launch.yaml");
    let (ended, ()) = tokio::join!(shop.sh(&line), votes);
    ended.with(0);
    assert_eq!(shop.version().await, "2.0.2");
    let report = fs::read_to_string(shop.path("run/uploaded.md")).unwrap();
    assert!(report.contains("shop-2.0.2"), "{report}");

    // What cannot be read is said before anything is booked.
    shop.change("launch.yaml", "undo: none", "# undo: none");
    shop.change("launch.yaml", "launch: shop-2.0.2", "launch: shop-2.0.3");
    shop.sh(&line).await.with(2);
}

#[tokio::test]
async fn the_scripts_are_what_shells_agree_on() {
    let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ci/release.sh");
    let scripts = ["migrate", "check-schema", "deploy", "smoke", "up", "down", "settings"];
    let scripts: Vec<_> = scripts.iter().map(|name| format!("{EXAMPLE}/{name}")).collect();
    let arguments = ["-x", "-P", EXAMPLE, recipe].into_iter().chain(scripts.iter().map(String::as_str));
    let Some(said) = run("shellcheck", &arguments.collect::<Vec<_>>(), b"").await else { return };
    assert_eq!(said, "");
}
