//! Commands of launches, run as a runner runs them: by real keepers, real process groups, real pipes.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command as Process, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use tidegate::clock;
use tidegate::launch::{
    Action, Breaker, Command, Comms, Launch, Outcome, Phase, Tier, Undo, Variable, Verdict,
};
use tidegate::runner::{Commands, Orders, Place, unset};

const PROGRAM: &str = env!("CARGO_BIN_EXE_tidegate");

/// After this a condition is not going to come true any more.
const PATIENCE: Duration = Duration::from_secs(20);

/// More than any command here takes.
const LONG: Duration = Duration::from_secs(60);

/// A folder to run commands in.
struct Yard {
    folder: TempDir,
    commands: Commands,
}

impl Yard {
    fn new(variables: &[(&str, Variable)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let orders =
            Orders { redo: false, undo: false, keeper: PROGRAM.into(), folder: folder.path().to_owned() };
        let commands =
            Commands::new(&Arc::new(launch(variables)), &orders, Path::new("/nowhere.sock")).unwrap();
        Self { folder, commands }
    }

    fn run(&self, command: &Command, limit: Duration) -> Outcome {
        let place = Place { phase: "expand", step: "execute" };
        self.commands.run(command, place, None, limit).expect("nobody interrupts it")
    }

    fn shell(&self, line: &str, limit: Duration) -> Outcome {
        self.run(&Command::Shell(line.into()), limit)
    }

    /// The process whose id a command wrote to the file.
    fn process(&self, file: &str) -> Pid {
        let path = self.folder.path().join(file);
        let pid = until("a command has written its process id", || {
            fs::read_to_string(&path).ok()?.trim().parse().ok()
        });
        Pid::from_raw(pid).unwrap()
    }
}

fn launch(variables: &[(&str, Variable)]) -> Launch {
    let phase = Phase {
        id: "expand".into(),
        title: None,
        check: Vec::new(),
        action: Action::Synthetic,
        verify: None,
        undo: Undo::None,
        timeout: Some(LONG),
        undo_timeout: LONG,
        rollback_on_failure: true,
    };
    Launch {
        name: "shop-2.0.2".into(),
        service: "shop".into(),
        version: None,
        environment: None,
        tier: Tier::Standard,
        window: None,
        rollback_within: None,
        breaker: Breaker::default(),
        flags: None,
        checklist: Vec::new(),
        go_nogo: None,
        warmup: None,
        synthetic: Vec::new(),
        comms: Comms::default(),
        contacts: Vec::new(),
        phases: vec![phase],
        variables: variables
            .iter()
            .map(|(name, variable)| (Arc::from(*name), variable.clone()))
            .collect::<BTreeMap<_, _>>(),
    }
}

#[track_caller]
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = clock::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(clock::now() - begun < PATIENCE, "waited in vain until {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Whether the process runs; one that only waits to be reaped by whoever inherited it does not.
fn runs(process: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|state| !state.is_empty() && !state.starts_with(['Z', 'X']))
}

fn argv(arguments: &[&str]) -> Command {
    Command::Argv(arguments.iter().map(|argument| Arc::from(*argument)).collect())
}

fn value(text: &str) -> Variable {
    Variable::Value(text.into())
}

#[test]
fn arguments_stay_arguments_and_the_command_knows_where_it_runs() {
    let yard = Yard::new(&[("IMAGE", value("shop:2; touch broken"))]);
    let said = |command: Command| {
        let outcome = yard.run(&command, LONG);
        assert_eq!(outcome.verdict, Verdict::Passed, "{}", outcome.said);
        outcome.said
    };
    assert_eq!(
        said(argv(&["printf", "<%s>", "${IMAGE}", "$${IMAGE}", "$(id)", "-x"])),
        "<shop:2; touch broken><${IMAGE}><$(id)><-x>"
    );
    let line = "echo \"$IMAGE $TIDEGATE_LAUNCH $TIDEGATE_SERVICE $TIDEGATE_PHASE $TIDEGATE_STEP $TIDEGATE_SOCKET\"; cat; pwd";
    let expected = "shop:2; touch broken shop-2.0.2 shop expand execute /nowhere.sock\n";
    let folder = yard.folder.path().canonicalize().unwrap();
    assert_eq!(said(Command::Shell(line.into())), format!("{expected}{}", folder.display()));
    assert!(!folder.join("broken").exists());
}

#[test]
fn what_a_command_is_told_comes_on_its_standard_input() {
    let yard = Yard::new(&[]);
    let told = |command: &str, input: &[u8]| {
        let place = Place { phase: "expand", step: "validate" };
        yard.commands.run(&Command::Shell(command.into()), place, Some(input.to_vec()), LONG).unwrap()
    };
    assert_eq!(told("wc -c", &vec![b'x'; 3_000_000]).said, "3000000");
    // It need not want to know.
    assert_eq!(told("exit 0", &vec![b'x'; 3_000_000]).verdict, Verdict::Passed);
    assert_eq!(told("exit 4", b"{}").said, "exit code 4");
}

#[test]
fn a_command_that_fails_says_how() {
    let yard = Yard::new(&[]);
    let check = |command: Command, expected: &str| {
        let outcome = yard.run(&command, LONG);
        assert_eq!(outcome.verdict, Verdict::Failed, "{}", outcome.said);
        assert!(outcome.said.starts_with(expected), "{:?} should begin with {expected:?}", outcome.said);
    };
    let sh = |line: &str| Command::Shell(line.into());
    check(sh("echo one; echo two >&2; echo three; exit 3"), "exit code 3\none\ntwo\nthree");
    check(sh("kill -KILL $$"), "exit code 137 (signal 9)");
    check(argv(&["./no-such-program", "x"]), "exit code 127\ncannot run ./no-such-program: No such file");
    check(argv(&["/"]), "exit code 126\ncannot run /: Permission denied");
    check(argv(&["a\0b"]), "a\0b cannot be started");
}

#[test]
fn what_takes_too_long_is_ended_with_its_whole_group() {
    let yard = Yard::new(&[]);
    let line = "sleep 1000 & echo $! > child; echo $$ > parent; echo begun; wait; sleep 1000";
    let outcome = yard.shell(line, Duration::from_secs(1));
    assert_eq!(outcome.verdict, Verdict::TimedOut);
    assert_eq!(outcome.said, "not done after 1 s, and ended\nbegun");
    assert!(!runs(yard.process("child")) && !runs(yard.process("parent")));
}

#[test]
fn what_does_not_end_when_it_is_asked_to_is_made_to() {
    let yard = Yard::new(&[]);
    let line = "trap '' TERM; echo $$ > parent; sh -c 'echo $$ > child; while :; do sleep 1; done'; :";
    let outcome = yard.shell(line, Duration::from_secs(1));
    assert_eq!(outcome.verdict, Verdict::TimedOut, "{}", outcome.said);
    assert!(!runs(yard.process("child")) && !runs(yard.process("parent")));
}

#[test]
fn what_a_command_forks_and_leaves_is_ended_with_it() {
    let yard = Yard::new(&[]);
    let outcome = yard.shell("sleep 1000 & echo $! > child; echo done", LONG);
    assert_eq!((outcome.verdict, &*outcome.said), (Verdict::Passed, "done"));
    let child = yard.process("child");
    until("the child has ended", || (!runs(child)).then_some(()));
}

#[test]
fn a_service_that_left_the_group_is_left_alone_and_not_waited_for() {
    let yard = Yard::new(&[]);
    // It holds the pipe, too.
    let outcome = yard.shell(
        "setsid sh -c 'echo $$ > service; exec sleep 1000' & until [ -s service ]; do :; done; echo done",
        LONG,
    );
    assert_eq!((outcome.verdict, &*outcome.said), (Verdict::Passed, "done"));
    let service = yard.process("service");
    let stayed = runs(service);
    rustix::process::kill_process(service, Signal::KILL).unwrap();
    assert!(stayed);
}

#[test]
fn a_gibibyte_of_output_takes_no_memory() {
    let yard = Yard::new(&[("CARGO_MANIFEST_DIR", Variable::Secret)]);
    let before = peak_kib();
    let outcome = yard.shell("echo first; head -c 1G /dev/zero | tr '\\0' x; echo; echo last; exit 1", LONG);
    let grown = peak_kib() - before;
    assert_eq!(outcome.verdict, Verdict::Failed, "{}", outcome.said);
    assert!(outcome.said.starts_with("exit code 1\nfirst"), "{}", outcome.said);
    assert!(outcome.said.ends_with("\nlast"), "{}", outcome.said);
    assert!(outcome.said.len() <= 4096);
    assert!(grown < 64 << 10, "{grown} KiB more");
}

fn peak_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn secrets_come_from_the_environment_and_are_never_said() {
    // Cargo sets it, so it is in everybody's environment here.
    let yard = Yard::new(&[("CARGO_MANIFEST_DIR", Variable::Secret)]);
    let secret = env!("CARGO_MANIFEST_DIR");
    let outcome = yard.run(
        &argv(&["sh", "-c", "echo it is $0; echo and $CARGO_MANIFEST_DIR; exit 1", "${CARGO_MANIFEST_DIR}"]),
        LONG,
    );
    assert_eq!(outcome.said, "exit code 1\nit is ***\nand ***");
    let outcome = yard.run(&argv(&["test", "${CARGO_MANIFEST_DIR}", "=", secret]), LONG);
    assert_eq!(outcome.verdict, Verdict::Passed, "it gets the value itself");
}

#[test]
fn a_secret_that_is_not_set_is_named_and_nothing_is_begun() {
    let variables = [("TIDEGATE_TEST_NOT_SET", Variable::Secret), ("PATH", Variable::Secret)];
    assert_eq!(unset(&launch(&variables)), [Arc::from("TIDEGATE_TEST_NOT_SET")]);
    let yard = Yard::new(&variables);
    let outcome = yard.run(&argv(&["touch", "begun", "${TIDEGATE_TEST_NOT_SET}"]), LONG);
    assert_eq!(outcome.verdict, Verdict::Failed);
    assert_eq!(outcome.said, "TIDEGATE_TEST_NOT_SET is not set in the environment");
    assert!(!yard.folder.path().join("begun").exists());
}

/// A keeper whose standard input is held by somebody else.
fn keeper(holder: &mut Child, folder: &Path, line: &str) -> Child {
    let lifeline = Stdio::from(holder.stdout.take().unwrap());
    let mut keeper = Process::new(PROGRAM);
    keeper.args(["launch", "keep", "0", "sh", "-c", line]).current_dir(folder).stdin(lifeline);
    keeper.spawn().unwrap()
}

fn holder() -> Child {
    Process::new("sleep").arg("1000").stdout(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_command_ends_with_its_runner_also_when_that_is_killed() {
    let yard = Yard::new(&[]);
    let mut runner = holder();
    let line = "sleep 1000 & echo $! > child; echo $$ > parent; wait";
    let mut keeper = keeper(&mut runner, yard.folder.path(), line);
    let (child, parent) = (yard.process("child"), yard.process("parent"));
    assert!(runs(child) && runs(parent));
    // As `kill -9` does.
    runner.kill().unwrap();
    runner.wait().unwrap();
    let status = keeper.wait().unwrap();
    assert_eq!(status.code(), Some(128 + 15), "it ended as it was asked to");
    assert!(!runs(child) && !runs(parent));
}

#[test]
fn a_command_ends_when_its_runner_hangs() {
    let yard = Yard::new(&[]);
    // It holds the pipe, and says nothing.
    let mut runner = holder();
    let mut keeper = keeper(&mut runner, yard.folder.path(), "echo $$ > parent; sleep 1000 & wait");
    let parent = yard.process("parent");
    assert_eq!(keeper.wait().unwrap().code(), Some(128 + 15), "it ended as it was asked to");
    assert!(!runs(parent));
    runner.kill().unwrap();
    runner.wait().unwrap();
}

#[test]
fn a_command_may_take_longer_than_its_runner_may_be_silent() {
    let yard = Yard::new(&[]);
    let ran = yard.shell("sleep 10; echo done", LONG);
    assert_eq!((ran.verdict, ran.said.trim()), (Verdict::Passed, "done"));
}

#[test]
fn only_its_runner_tells_a_keeper_what_to_do() {
    let yard = Yard::new(&[]);
    let mut runner = holder();
    let line = "echo $$ > parent; until [ -e go ]; do sleep 0.05; done; exit 7";
    let mut keeper = keeper(&mut runner, yard.folder.path(), line);
    yard.process("parent");
    for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT] {
        rustix::process::kill_process(Pid::from_child(&keeper), signal).unwrap();
    }
    fs::File::create(yard.folder.path().join("go")).unwrap().flush().unwrap();
    assert_eq!(keeper.wait().unwrap().code(), Some(7));
    runner.kill().unwrap();
    runner.wait().unwrap();
}
