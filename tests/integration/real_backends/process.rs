//! A backend's process, and where it keeps what it knows.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use foregate_tests::free_port;
use tokio::net::TcpStream;
use tokio::time::sleep;

/// A program that listens at a port of its own and can be started more than once. It ends, with
/// what it started, when this is dropped.
pub(crate) struct Process {
    command: Command,
    child: Option<Child>,
    pub(crate) address: SocketAddr,
    /// Goes with this.
    directory: PathBuf,
}

impl Process {
    /// Starts what `command` makes of a port and an empty directory; returns when it listens.
    pub(crate) async fn start(command: impl Fn(u16, &PathBuf) -> Command) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = format!("foregate-backend-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(directory);
        std::fs::create_dir_all(&directory).expect("the temporary directory takes another");
        let port = free_port();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut command = command(port, &directory);
        let output = File::create(directory.join(OUTPUT)).expect("the directory takes a file");
        let errors = output.try_clone().expect("a file can be shared");
        command.stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0);
        let mut process = Self { command, child: None, address, directory };
        process.resume().await;
        process
    }

    pub(crate) async fn resume(&mut self) {
        let program = self.command.get_program().to_owned();
        let child = self.command.spawn();
        self.child = Some(child.unwrap_or_else(|why| panic!("{}: {why}", program.display())));
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(self.address).await.is_err() {
            let child = self.child.as_mut().expect("it was started above");
            let ended = child.try_wait().expect("a child can be asked");
            if ended.is_some() || Instant::now() > deadline {
                panic!("{} does not listen:\n{}", program.display(), self.output());
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// All that it wrote, to stdout and to stderr.
    fn output(&self) -> String {
        std::fs::read_to_string(self.directory.join(OUTPUT)).unwrap_or_default()
    }

    /// Asks it to end, and returns when it has.
    pub(crate) async fn stop(&mut self) {
        let mut child = self.child.take().expect("it runs");
        signal(&child, "TERM");
        let deadline = Instant::now() + PATIENCE;
        while child.try_wait().expect("a child can be asked").is_none() {
            assert!(Instant::now() < deadline, "it does not end");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            signal(&child, "KILL");
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("the backend's own words:\n{}", self.output());
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// To the process and all that it started. One that has ended already needs none.
fn signal(child: &Child, name: &str) {
    let group = format!("-{}", child.id());
    let _ = Command::new("kill").args(["-s", name, "--", &group]).status();
}

const OUTPUT: &str = "output.txt";
/// Keycloak builds itself at its first start.
const PATIENCE: Duration = Duration::from_secs(400);
