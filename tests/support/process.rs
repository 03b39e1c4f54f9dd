//! A peer as a child process: its output as lines that can be waited for, and an end that nothing survives.

use super::wait;
use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    os::{fd::OwnedFd, unix::process::CommandExt},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

/// A running child. Dropping it kills it with all that it started; its last lines are shown if the test failed.
pub struct Process {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    log: Arc<Log>,
    unread: Vec<OwnedFd>,
}

impl Process {
    /// Starts `command`. `name` stands before its lines in the report of a failed test.
    #[track_caller]
    pub fn start(name: &str, command: Command) -> Process {
        let mut process = Process::start_unread(name, command);
        process.read();
        process
    }

    /// As [`start`](Process::start), but what it writes stays in its pipes until it is [`read`](Process::read).
    #[track_caller]
    pub fn start_unread(name: &str, mut command: Command) -> Process {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        // SAFETY: prctl is async-signal-safe and touches nothing of the parent.
        unsafe {
            command.pre_exec(|| {
                // A test that is killed takes its peers along.
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{name} ({:?}) does not start: {error}", command.get_program()));
        let log = Arc::new(Log::default());
        let (stdout, stderr) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        let unread = vec![OwnedFd::from(stdout), OwnedFd::from(stderr)];
        let stdin = child.stdin.take();
        Process { name: name.to_owned(), child, stdin, log, unread }
    }

    /// Reads what it writes from now on, and what has waited.
    pub fn read(&mut self) {
        for pipe in self.unread.drain(..) {
            self.log.follow(File::from(pipe));
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written so far, and waiting for what it will write.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Types a line.
    pub fn write_line(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("input still open");
        writeln!(stdin, "{line}").and_then(|()| stdin.flush()).unwrap_or_else(|error| {
            panic!("{} takes no input: {error}\n{}", self.name, self.log.tail(30));
        });
    }

    /// Closes its standard input.
    pub fn close_input(&mut self) {
        self.stdin = None;
    }

    /// Sends a signal to it alone.
    pub fn signal(&self, signal: libc::c_int) {
        // SAFETY: kill has no memory effects; the child is not yet reaped, so its number is its own.
        unsafe { libc::kill(self.child.id() as libc::pid_t, signal) };
    }

    /// Its exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child that can be waited for")
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait_exit(&mut self, limit: Duration) -> ExitStatus {
        match wait::within(limit, || self.child.try_wait().expect("a child that can be waited for")) {
            Some(status) => status,
            None => panic!("{} still runs after {limit:?}\n{}", self.name, self.log.tail(40)),
        }
    }

    /// Ends it with all its children, at once, and reaps it.
    pub fn kill(&mut self) {
        // SAFETY: as in `signal`; the group was made for this child alone.
        unsafe { libc::killpg(self.child.id() as libc::pid_t, libc::SIGKILL) };
        let _ = self.child.wait();
    }
}

/// A command that only root may run: as root itself, else through sudo, which must not ask.
pub fn as_root(program: &str) -> Command {
    // SAFETY: geteuid only reads a number.
    let mut command = if unsafe { libc::geteuid() } == 0 {
        Command::new(program)
    } else {
        let mut sudo = Command::new("sudo");
        sudo.arg("-n").arg(program);
        sudo
    };
    // Debian keeps such programs where a user's path does not lead.
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

/// Runs a command to its end, which must be a good one.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{:?}: {error}", command.get_program()));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Says something that stays to be read when the test succeeds: what is printed otherwise is kept from sight then.
pub fn report(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}");
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.kill();
        }
        if std::thread::panicking() {
            eprintln!("---- {} wrote:\n{}", self.name, self.log.tail(60));
        }
    }
}

/// The lines of a child's standard output and error, in the order of their arrival.
#[derive(Default)]
pub struct Log {
    lines: Mutex<Vec<String>>,
    grown: Condvar,
}

impl Log {
    fn follow(self: &Arc<Log>, stream: impl Read + Send + 'static) {
        let log = Arc::clone(self);
        std::thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n') {
                let Ok(line) = line else { break };
                // A carriage return starts a status line anew: only its last state is kept.
                let text = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
                let text = text.rsplit('\r').next().unwrap_or_default().to_owned();
                log.push(text);
            }
        });
    }

    /// Adds a line.
    pub fn push(&self, line: String) {
        self.lines.lock().expect("no reader panics").push(line);
        self.grown.notify_all();
    }

    /// All lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().expect("no reader panics").clone()
    }

    pub fn contains(&self, text: &str) -> bool {
        self.lines.lock().expect("no reader panics").iter().any(|line| line.contains(text))
    }

    /// The number of lines so far: a mark for [`wait_for_after`](Log::wait_for_after).
    pub fn len(&self) -> usize {
        self.lines.lock().expect("no reader panics").len()
    }

    /// Waits for a line with `text`, also one already written.
    #[track_caller]
    pub fn wait_for(&self, text: &str, limit: Duration) -> String {
        self.wait_for_after(0, text, limit)
    }

    /// Waits for a line with `text` behind the first `mark` lines.
    #[track_caller]
    pub fn wait_for_after(&self, mark: usize, text: &str, limit: Duration) -> String {
        let deadline = Instant::now() + limit;
        let mut lines = self.lines.lock().expect("no reader panics");
        loop {
            if let Some(line) = lines.iter().skip(mark).find(|line| line.contains(text)) {
                return line.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(lines);
                panic!(
                    "waited {limit:?} in vain for a line with \"{text}\"; the last lines:\n{}",
                    self.tail(40)
                );
            }
            lines = self.grown.wait_timeout(lines, left).expect("no reader panics").0;
        }
    }

    /// The last `count` lines.
    pub fn tail(&self, count: usize) -> String {
        let lines = self.lines.lock().expect("no reader panics");
        lines[lines.len().saturating_sub(count)..].join("\n")
    }
}
