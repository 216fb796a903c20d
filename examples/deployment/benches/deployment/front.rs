//! What stands in front of the same two instances with the same weights: the splitter, and nginx.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use gemba_deployment::splitter::table::{Share, Table};

use crate::processes::{Ports, Running, START_MAX};
use crate::wire::{get, put};

/// Weights of the two instances, in ten thousandths.
const WEIGHTS: [u32; 2] = [2_500, 7_500];

/// Two instances with next to nothing to do.
#[derive(Debug)]
pub(crate) struct Instances {
    pub(crate) addresses: [SocketAddr; 2],
    _running: [Running; 2],
}

impl Instances {
    pub(crate) fn start(ports: &mut Ports) -> io::Result<Self> {
        let addresses = [ports.take(), ports.take()];
        let start = |address: SocketAddr| {
            let mut command = Command::new(std::env::current_exe()?);
            Running::start(command.args(["--upstream", &address.to_string()]), address)
        };
        Ok(Self { addresses, _running: [start(addresses[0])?, start(addresses[1])?] })
    }
}

/// Something in front of them.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) address: SocketAddr,
    pub(crate) admin: Option<SocketAddr>,
    pub(crate) running: Running,
}

impl Front {
    /// The splitter of this repository.
    pub(crate) fn splitter(ports: &mut Ports, instances: &Instances, directory: &Path) -> io::Result<Self> {
        let front = Self::listening(ports.take(), ports.take(), directory, 1)?;
        front.tell(WEIGHTS, instances.addresses)?;
        Ok(front)
    }

    /// A splitter that takes over from this one, which ends then.
    pub(crate) fn successor(&self, directory: &Path, build: u32) -> io::Result<Self> {
        let admin = self.admin.ok_or_else(|| io::Error::other("nginx hands nothing over"))?;
        Self::listening(self.address, admin, directory, build)
    }

    fn listening(address: SocketAddr, admin: SocketAddr, directory: &Path, build: u32) -> io::Result<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_deployment"));
        command.args(["splitter", "--listen", &address.to_string(), "--admin", &admin.to_string()]);
        command.args(["--handover", "handover", "--build", &build.to_string()]).current_dir(directory);
        let running = Running::start(&mut command, admin)?;
        let asked = Instant::now();
        // One that takes over answers at the address of the one before.
        while !get(admin, &format!("/health?build={build}"))
            .is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
        {
            if START_MAX < asked.elapsed() {
                return Err(io::Error::other("the splitter did not take over"));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(Self { address, admin: Some(admin), running })
    }

    /// Tells a splitter the shares of the new and the old version.
    pub(crate) fn tell(&self, weights: [u32; 2], instances: [SocketAddr; 2]) -> io::Result<()> {
        let share = |version: &str, weight: u32, instance: SocketAddr| Share {
            version: version.to_owned(),
            weight,
            instances: vec![instance],
        };
        let versions = vec![share("v2", weights[0], instances[0]), share("v1", weights[1], instances[1])];
        let versions = versions.into_iter().filter(|share| 0 < share.weight).collect();
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
        let table = Table { generation: since.as_micros() as u64, versions, ..Table::default() };
        let admin = self.admin.ok_or_else(|| io::Error::other("nginx is told nothing"))?;
        let answer = put(admin, "/table", &serde_json::to_vec(&table)?)?;
        if answer.starts_with("HTTP/1.1 204") { Ok(()) } else { Err(io::Error::other(answer)) }
    }

    /// nginx as one sets it up for this: a worker for each processor, connections to instances kept, no log.
    /// `None` if it is not installed.
    pub(crate) fn nginx(
        ports: &mut Ports,
        instances: &Instances,
        directory: &Path,
    ) -> io::Result<Option<Self>> {
        if Command::new("nginx").arg("-v").output().is_err() {
            return Ok(None);
        }
        let address = ports.take();
        let [first, second] = instances.addresses;
        let [few, many] = WEIGHTS;
        let home = directory.display();
        let settings = format!(
            "daemon off; worker_processes auto; pid {home}/nginx.pid; error_log {home}/error.log crit;\n\
             events {{ worker_connections 1024; }}\n\
             http {{\n\
             access_log off; keepalive_requests 1000000000;\n\
             client_body_temp_path {home}/body; proxy_temp_path {home}/proxy; fastcgi_temp_path {home}/f;\n\
             uwsgi_temp_path {home}/u; scgi_temp_path {home}/s;\n\
             upstream instances {{ server {first} weight={few}; server {second} weight={many};\n\
             keepalive 256; keepalive_requests 1000000000; }}\n\
             server {{ listen {address}; location / {{ proxy_pass http://instances; proxy_http_version 1.1;\n\
             proxy_set_header Connection \"\"; proxy_set_header Host $host;\n\
             proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n\
             proxy_set_header X-Forwarded-Proto $scheme; }} }}\n\
             }}\n"
        );
        let file = directory.join("nginx.conf");
        fs::write(&file, settings)?;
        let mut command = Command::new("nginx");
        command.arg("-p").arg(directory).arg("-e").arg(directory.join("error.log")).arg("-c").arg(&file);
        Ok(Some(Self { address, admin: None, running: Running::start(&mut command, address)? }))
    }
}
