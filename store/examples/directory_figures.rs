//! Measures the directory: `cargo run --release -p store --example
//! directory_figures -- FOLDER ROUTERS DEVICES_PER_ROUTER`. It makes routers by
//! imports and one by one, then devices, then opens all anew and asks; it
//! prints rates, times and the resident memory.

#![allow(clippy::print_stdout, reason = "it prints figures")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

use prometheus::Registry;
use schema::{
    Credentials, DocumentBody, Location, LocationId, RouterId, Tenant, TenantId, TenantSettings,
};
use store::{Directory, ListQuery, NewRouter};

/// Callers that ask for devices at the same time.
const CALLERS: usize = 256;

/// Routers of one location.
const PER_LOCATION: usize = 100;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().ok_or("FOLDER ROUTERS DEVICES_PER_ROUTER");
    let dir = PathBuf::from(next()?);
    let routers: usize = next()?.parse()?;
    let devices: usize = next()?.parse()?;
    if !dir.join("directory.db").exists() {
        make(&dir, routers, devices).await?;
        return Ok(());
    }
    let before = resident_mib()?;
    let started = Instant::now();
    let directory = Directory::open_embedded(&dir, &Registry::new())?;
    println!("opened in {:.2} s", started.elapsed().as_secs_f64());
    println!("resident: {:.0} MiB ({before:.0} MiB before)", resident_mib()?);
    ask(&directory)?;
    directory.close().await;
    Ok(())
}

async fn make(dir: &Path, routers: usize, devices: usize) -> Outcome<()> {
    let directory = Directory::open_embedded(dir, &Registry::new())?;
    let settings = TenantSettings { max_devices: u32::MAX, ..TenantSettings::default() };
    let tenant = Tenant { name: "figures".to_owned(), settings };
    let tenant = TenantId(directory.create(DocumentBody::Tenant(tenant)).await?.id);

    let alone = LocationId(location(&directory, tenant, "alone").await?);
    let started = Instant::now();
    for n in 0..200 {
        directory.create_routers(vec![router(alone, &format!("alone {n}"))]).await?;
    }
    rate("routers one after another", 200, started);

    let started = Instant::now();
    let mut made = Vec::with_capacity(routers);
    for first in (0..routers).step_by(1_000) {
        let mut batch = Vec::with_capacity(1_000);
        for n in first..routers.min(first + 1_000) {
            if n % PER_LOCATION == 0 {
                let name = format!("site {n}");
                made.push(LocationId(location(&directory, tenant, &name).await?));
            }
            batch.push(router(made[n / PER_LOCATION], &format!("router {n:06}")));
        }
        directory.create_routers(batch).await?;
    }
    rate("routers by imports of 1,000", routers, started);

    let ids: Vec<RouterId> = all_routers(&directory, tenant);
    let started = Instant::now();
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..CALLERS {
        let (directory, ids) = (directory.clone(), ids.clone());
        callers.spawn(async move {
            for &id in ids.iter().skip(caller).step_by(CALLERS) {
                for n in 0..devices {
                    let name = format!("machine {id}-{n}");
                    directory.ensure_device(id, &name, Some("default")).await?;
                }
            }
            Ok::<(), store::DirectoryError>(())
        });
    }
    while let Some(done) = callers.join_next().await {
        done??;
    }
    rate(&format!("devices by {CALLERS} callers at once"), ids.len() * devices, started);
    directory.close().await;
    Ok(())
}

async fn location(directory: &Directory, tenant: TenantId, name: &str) -> Outcome<u64> {
    let location =
        Location { tenant, name: name.to_owned(), time_zone: "UTC".to_owned(), groups: Vec::new() };
    Ok(directory.create(DocumentBody::Location(location)).await?.id)
}

fn router(location: LocationId, name: &str) -> NewRouter {
    let hash = format!("{:0>64}", name.replace(' ', "0"));
    let credentials = Credentials::AccessToken { hash };
    NewRouter {
        location,
        name: name.to_owned(),
        credentials,
        enabled: true,
        cloud_host: None,
        send_interval_s: None,
    }
}

fn all_routers(directory: &Directory, tenant: TenantId) -> Vec<RouterId> {
    let mut query = ListQuery { tenant: Some(tenant), ..ListQuery::default() };
    let mut ids = Vec::new();
    loop {
        let page = directory.routers(&query);
        ids.extend(page.items.iter().map(|router| RouterId(router.id)));
        match page.next {
            Some(next) => query.after = Some(next),
            None => return ids,
        }
    }
}

/// What a connecting router costs: credentials, then its own device.
fn ask(directory: &Directory) -> Outcome<()> {
    let tenant = directory.tenants(&ListQuery::default()).items.first().ok_or("empty")?.id;
    let ids = all_routers(directory, TenantId(tenant));
    let keys: Vec<String> =
        ids.iter().filter_map(|&id| Some(directory.router(id)?.credentials.lookup_key())).collect();
    let started = Instant::now();
    for key in &keys {
        let router = directory.router_by_lookup_key(key).ok_or("a router is missing")?;
        directory.device(router.device).ok_or("a device is missing")?;
    }
    rate("look-ups of credentials and own device", keys.len(), started);
    Ok(())
}

#[allow(clippy::cast_precision_loss, reason = "figures for people")]
fn rate(what: &str, count: usize, started: Instant) {
    let seconds = started.elapsed().as_secs_f64();
    println!("{what}: {count} in {seconds:.2} s, {:.0}/s", count as f64 / seconds);
}

fn resident_mib() -> Outcome<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
    let kib: f64 = line.split_whitespace().nth(1).ok_or("no figure")?.parse()?;
    Ok(kib / 1_024.0)
}
