//! The virtual machine: QEMU, and a shell in it.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A command in the guest takes no longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a command said.
#[derive(Clone)]
pub struct Run {
    /// The command.
    pub line: String,
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "$ {}\n{}{}exit code {}", self.line, self.stdout, self.stderr, self.code)
    }
}

/// The running machine.
pub struct Guest {
    machine: Child,
    shell: BufReader<UnixStream>,
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.machine.kill();
        let _ = self.machine.wait();
    }
}

impl Guest {
    /// Boots, and waits for the shell. `work` has `usb0` and `usb1`, the sockets of the two ports.
    pub fn boot(work: &Path, kernel: &Path, initramfs: &Path) -> Self {
        let listener = UnixListener::bind(work.join("shell")).expect("a socket can be made");
        let path = |name: &str| work.join(name).display().to_string();
        let console = format!("file:{}", path("console.log"));
        let socket = |id: &str| format!("socket,id={id},path={}", path(id));
        let machine = Command::new("qemu-system-x86_64")
            .args(["-M", "pc", "-accel", "tcg", "-cpu", "qemu64", "-m", "256", "-nodefaults"])
            .args(["-display", "none", "-no-reboot", "-serial", &console])
            .args(["-chardev", &socket("shell"), "-serial", "chardev:shell"])
            // The first port of the host controller, and the third of a hub at its second.
            .args(["-device", "piix3-usb-uhci,id=uhci", "-device", "usb-hub,bus=uhci.0,port=2"])
            .args(["-chardev", &socket("usb0"), "-device", "usb-redir,chardev=usb0,bus=uhci.0,port=1"])
            .args(["-chardev", &socket("usb1"), "-device", "usb-redir,chardev=usb1,bus=uhci.0,port=2.3"])
            .arg("-kernel")
            .arg(kernel)
            .arg("-initrd")
            .arg(initramfs)
            .args(["-append", "console=ttyS0 panic=-1 quiet"])
            .stdin(Stdio::null())
            .spawn()
            .expect("qemu-system-x86_64 starts");
        let (stream, _) = listener.accept().expect("QEMU connects");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket takes time-outs");
        let mut guest = Self { machine, shell: BufReader::new(stream) };
        assert_eq!(guest.line(), "ready", "the guest does not boot");
        guest
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.shell.read_line(&mut line).expect("the guest answers in time");
        line.trim_end().to_owned()
    }

    /// Runs a line of shell.
    pub fn run(&mut self, line: &str) -> Run {
        writeln!(self.shell.get_mut(), "{line}").expect("the guest listens");
        let head = self.line();
        let numbers: Vec<i32> = head.split(' ').filter_map(|word| word.parse().ok()).collect();
        let &[code, out, err] = &*numbers else { panic!("`{line}`: {head}") };
        let [stdout, stderr] = [out, err].map(|len| {
            let mut text = vec![0; usize::try_from(len).expect("a length")];
            self.shell.read_exact(&mut text).expect("the guest answers in time");
            String::from_utf8_lossy(&text).into_owned()
        });
        let run = Run { line: line.to_owned(), code, stdout, stderr };
        println!("{run:?}");
        run
    }

    /// Runs a line that succeeds; gives its standard output.
    pub fn ok(&mut self, line: &str) -> String {
        let run = self.run(line);
        assert_eq!(run.code, 0, "{line}");
        run.stdout
    }

    /// Runs a line that prints JSON.
    pub fn json(&mut self, line: &str) -> serde_json::Value {
        serde_json::from_str(&self.ok(line)).expect("JSON")
    }

    /// Runs a line that fails with this code; gives its standard error.
    pub fn fails(&mut self, code: i32, line: &str) -> String {
        let run = self.run(line);
        assert_eq!(run.code, code, "{line}");
        run.stderr
    }
}
