//! A PostgreSQL server of the test's own: real, empty, and gone with the test.

use super::{lane::Lane, process::Process, tls::Issued, wait};
use std::{
    fs,
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread::JoinHandle,
};

/// The role that owns everything; it needs no password.
const ROLE: &str = "tandem";

/// A running server. It can be stopped and started again with its data and its port.
pub struct Postgres {
    programs: PathBuf,
    folder: PathBuf,
    port: u16,
    owner: Option<(u32, u32)>,
    secure: bool,
    server: Option<Process>,
}

impl Postgres {
    /// Makes a server with one empty database, named like the role, and waits until it answers. It ends with the
    /// thread that called this, at the latest.
    #[track_caller]
    pub fn start(lane: &Lane) -> Postgres {
        Postgres::make(lane, None)
    }

    /// The same, but over TLS with this certificate, and over nothing else.
    #[track_caller]
    pub fn start_with_tls(lane: &Lane, identity: &Issued) -> Postgres {
        Postgres::make(lane, Some(identity))
    }

    #[track_caller]
    fn make(lane: &Lane, identity: Option<&Issued>) -> Postgres {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        // Not in the lane's folder: the server runs as another user, who must be able to walk to its data.
        let folder = std::env::temp_dir().join(format!("tandem-postgres-{}-{count}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder for the server");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).expect("the folder is ours");
        let owner = unprivileged();
        if let Some((user, group)) = owner {
            chown(&folder, Some(user), Some(group)).expect("root may give its folder away");
        }
        let secure = identity.is_some();
        let mut postgres =
            Postgres { programs: programs(), folder, port: lane.port(), owner, secure, server: None };
        let initdb = postgres
            .program("initdb")
            .args([
                "--no-sync",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "-U",
                ROLE,
                "-D",
                "data",
            ])
            .output()
            .expect("initdb runs");
        assert!(initdb.status.success(), "initdb: {}", String::from_utf8_lossy(&initdb.stderr));
        if let Some(identity) = identity {
            postgres.write("server.crt", &identity.certificate);
            postgres.write("server.key", &identity.key);
            postgres.write("pg_hba.conf", "hostssl all all 127.0.0.1/32 trust\n");
        }
        postgres.start_again();
        postgres.make_database(ROLE);
        postgres
    }

    /// Where a gateway finds the database.
    pub fn url(&self) -> String {
        self.url_of(ROLE)
    }

    fn url_of(&self, database: &str) -> String {
        format!("postgres://{ROLE}@127.0.0.1:{}/{database}", self.port)
    }

    /// Adds an empty database and gives its URL.
    #[track_caller]
    pub fn make_database(&self, name: &str) -> String {
        let mut psql = self.client("psql");
        psql.args(["-v", "ON_ERROR_STOP=1", "-d", "postgres", "-c", &format!("CREATE DATABASE {name}")]);
        let made = psql.output().expect("psql runs");
        assert!(made.status.success(), "CREATE DATABASE: {}", String::from_utf8_lossy(&made.stderr));
        self.url_of(name)
    }

    /// Stops the server at once, as a crash does; its data stays.
    pub fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            // "Immediate" shutdown: connections are cut, shared memory is tidied up.
            server.signal(libc::SIGQUIT);
            server.wait_exit(wait::SOON);
        }
    }

    /// Starts the stopped server.
    #[track_caller]
    pub fn start_again(&mut self) {
        let mut postgres = self.program("postgres");
        postgres.args(["-D", "data", "-p", &self.port.to_string(), "-k"]).arg(&self.folder);
        // Its data needs to survive nothing but its own restart.
        for setting in [
            "listen_addresses=127.0.0.1",
            "fsync=off",
            "full_page_writes=off",
            "shared_buffers=16MB",
            "dynamic_shared_memory_type=mmap",
        ] {
            postgres.args(["-c", setting]);
        }
        if self.secure {
            postgres.args(["-c", "ssl=on"]);
        }
        self.server = Some(Process::start("postgres", postgres));
        wait::until("PostgreSQL to answer", wait::START, || {
            let ready = self.client("pg_isready").output().expect("pg_isready runs");
            ready.status.success().then_some(())
        });
    }

    /// What the server answers to a query, as psql prints it.
    #[track_caller]
    pub fn query(&self, sql: &str) -> String {
        let mut psql = self.client("psql");
        let asked =
            psql.args(["-v", "ON_ERROR_STOP=1", "-At", "-d", ROLE, "-c", sql]).output().expect("psql runs");
        assert!(asked.status.success(), "{sql}: {}", String::from_utf8_lossy(&asked.stderr));
        String::from_utf8_lossy(&asked.stdout).trim().to_owned()
    }

    /// Writes a file of the server's data, for its user alone.
    fn write(&self, name: &str, contents: &str) {
        let file = self.folder.join("data").join(name);
        fs::write(&file, contents).expect("a file of the server");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("the file is ours");
        if let Some((user, group)) = self.owner {
            chown(&file, Some(user), Some(group)).expect("root may give its file away");
        }
    }

    /// A server program, as the user that may run it.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.current_dir(&self.folder).env("LC_ALL", "C.UTF-8");
        if let Some((user, group)) = self.owner {
            command.uid(user).gid(group);
        }
        command
    }

    fn client(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", ROLE]).current_dir("/");
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// One server for all tests of a binary that only need a database of their own; it ends with the last of them.
pub struct SharedPostgres {
    urls: Mutex<(mpsc::SyncSender<String>, mpsc::Receiver<String>)>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl SharedPostgres {
    /// The running server, or a new one.
    pub fn get() -> Arc<SharedPostgres> {
        static CURRENT: Mutex<Weak<SharedPostgres>> = Mutex::new(Weak::new());
        let mut current = CURRENT.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(running) = current.upgrade() {
            return running;
        }
        let (ask, asked) = mpsc::sync_channel::<String>(1);
        let (tell, told) = mpsc::sync_channel(1);
        // A child dies with the thread that started it, and every test has a thread of its own.
        let thread = std::thread::spawn(move || {
            let lane = Lane::take("postgres");
            let server = Postgres::start(&lane);
            for name in asked {
                let url = server.make_database(&name);
                if tell.send(url).is_err() {
                    break;
                }
            }
        });
        let shared =
            Arc::new(SharedPostgres { urls: Mutex::new((ask, told)), thread: Mutex::new(Some(thread)) });
        *current = Arc::downgrade(&shared);
        shared
    }

    /// Adds an empty database and gives its URL.
    #[track_caller]
    pub fn make_database(&self) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let urls = self.urls.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        urls.0.send(name).expect("the server's thread lives");
        urls.1.recv().expect("PostgreSQL starts and makes a database")
    }
}

impl Drop for SharedPostgres {
    fn drop(&mut self) {
        // Without anybody to ask, the thread's loop ends, and the server with it.
        let (closed, _) = mpsc::sync_channel(1);
        if let Ok(urls) = self.urls.get_mut() {
            urls.0 = closed;
        }
        if let Some(thread) = self.thread.get_mut().ok().and_then(Option::take) {
            let _ = thread.join();
        }
    }
}

/// Everything the database at `url` holds, as a script.
#[track_caller]
pub fn dump(url: &str) -> String {
    let dumped = Command::new(programs().join("pg_dump")).args(["-d", url]).output().expect("pg_dump runs");
    assert!(dumped.status.success(), "pg_dump: {}", String::from_utf8_lossy(&dumped.stderr));
    String::from_utf8_lossy(&dumped.stdout).into_owned()
}

/// The newest installed server's programs: Debian keeps them out of PATH.
#[track_caller]
fn programs() -> PathBuf {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, programs)| programs.join("postgres").exists())
        .collect();
    versions.sort();
    versions.pop().expect("PostgreSQL is installed: make test does that").1
}

/// Whom the server runs as: it refuses root, so root lends it the package's own user.
fn unprivileged() -> Option<(u32, u32)> {
    // SAFETY: geteuid has no preconditions.
    if unsafe { libc::geteuid() } != 0 {
        return None;
    }
    let users = fs::read_to_string(Path::new("/etc/passwd")).expect("a readable /etc/passwd");
    let found = ["postgres:", "nobody:"]
        .iter()
        .find_map(|name| users.lines().find(|line| line.starts_with(name)))
        .expect("a user postgres or nobody");
    let mut fields = found.split(':').skip(2).map(|field| field.parse().expect("a number"));
    Some((fields.next().expect("a uid"), fields.next().expect("a gid")))
}
