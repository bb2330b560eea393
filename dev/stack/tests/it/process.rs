//! Child processes: their end, and what they leave behind.

use std::{fs, process::Command, thread, time::Duration};

use stack::{
    Profile, Project,
    process::{Launch, Process},
    wait,
};

const SOON: Duration = Duration::from_secs(10);

fn profile(name: &str) -> Profile {
    Profile::fresh(&Project::find().unwrap(), &format!("it/{name}")).unwrap()
}

fn shell(script: &str) -> Launch {
    Launch { args: vec!["-c".to_owned(), script.to_owned()], ..Launch::new("shell", "/bin/sh") }
}

fn command_line(pid: u32) -> Vec<u8> {
    fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()
}

fn gone(pid: u32) -> bool {
    // A zombie has no command line any more.
    command_line(pid).is_empty()
}

fn await_gone(pid: u32) {
    wait::until("the child to end", SOON, || Ok(gone(pid).then_some(()))).unwrap();
}

#[test]
fn an_early_exit_is_reported_with_the_last_lines_of_the_log() {
    let profile = profile("process-words");
    let mut process = Process::start(&profile, shell("echo the port is taken; exit 3")).unwrap();
    let error = process.wait_ready(SOON, || false).unwrap_err().to_string();
    assert!(error.contains("exit status: 3") && error.contains("the port is taken"), "{error}");
}

#[test]
fn a_stop_lets_work_in_progress_finish() {
    let profile = profile("process-stop");
    let script = "trap 'echo finished; exit 0' TERM; echo ready; while true; do sleep 0.05; done";
    let mut process = Process::start(&profile, shell(script)).unwrap();
    let log = profile.log("shell");
    let says = |word: &str| fs::read_to_string(&log).unwrap_or_default().contains(word);
    process.wait_ready(SOON, || says("ready")).unwrap();
    process.stop().unwrap();
    assert!(says("finished"));
}

#[test]
fn a_child_does_not_outlive_the_thread_that_started_it() {
    let profile = profile("process-orphan");
    // The kernel signals the child when the thread that started it ends.
    let pid = thread::spawn(move || {
        let mut process = Process::start(&profile, shell("exec sleep 1000")).unwrap();
        let pid = process.pid();
        process.wait_ready(SOON, || command_line(pid).starts_with(b"sleep")).unwrap();
        std::mem::forget(process);
        pid
    })
    .join()
    .unwrap();
    await_gone(pid);
}

#[test]
fn only_processes_of_an_earlier_run_are_stopped() {
    let profile = profile("process-left");
    let pids = profile.folder().join("pids");
    let mut left = Command::new("/bin/sleep").arg("1000").spawn().unwrap();
    let mut stranger = Command::new("/bin/sleep").arg("1000").spawn().unwrap();

    fs::write(pids.join("shell"), format!("{}\n/bin/sleep\n", left.id())).unwrap();
    let mut process = Process::start(&profile, shell("exec sleep 1000")).unwrap();
    assert!(gone(left.id()));
    process.stop().unwrap();

    // Another program has the pid now.
    fs::write(pids.join("shell"), format!("{}\n/usr/bin/flowmeter-collector\n", stranger.id())).unwrap();
    Process::start(&profile, shell("exec sleep 1000")).unwrap().stop().unwrap();
    assert!(!gone(stranger.id()));

    left.wait().unwrap();
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}
