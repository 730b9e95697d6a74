//! What a changed row costs: store requests, time, CPU and memory. `cargo bench --bench line`
//!
//! Everything here runs on memory stores with 5 ms of latency, so that anybody can repeat it. Requests are counted in
//! virtual time, where nothing depends on the machine. Rates are ratios to a bare loop of 100-row transactions in the
//! same run, because a clock alone says more of the machine than of the program. `-- --azurite` adds the same rate on
//! two Azurites, `-- --served` on two memory stores, each served by a process of its own. `-- --backlog`
//! freezes one of two destinations for 200,000 writes, and does nothing else; with `--served` the daemon and each store are
//! processes of their own, with `--azurite` the stores are Azurites and it is a twentieth of that.
//! `-- --probes` has load balancers probe a line at work, and does nothing else either.

#[path = "line/backlog.rs"]
mod backlog;
#[path = "line/frozen.rs"]
mod frozen;
#[path = "line/latency.rs"]
mod latency;
#[path = "line/probes.rs"]
mod probes;
#[path = "line/process.rs"]
mod process;
#[path = "line/processes.rs"]
mod processes;
#[path = "line/requests.rs"]
mod requests;
#[path = "line/throughput.rs"]
mod throughput;
#[path = "line/world.rs"]
mod world;

fn main() {
    // `cargo test --benches` runs this too, with `--test`: the counts are quick and worth keeping.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |argument: &str| arguments.iter().any(|given| given == argument);
    if has("--backlog") {
        return match (has("--served"), has("--azurite")) {
            (true, _) => frozen::run(processes::Kind::Served),
            (_, true) => frozen::run(processes::Kind::Azurite),
            _ => backlog::run(),
        };
    }
    if has("--probes") {
        return probes::run();
    }
    requests::run();
    if has("--test") {
        return;
    }
    throughput::run();
    latency::run();
    for (argument, kind) in [("--azurite", processes::Kind::Azurite), ("--served", processes::Kind::Served)] {
        if has(argument) {
            processes::run(kind);
        }
    }
}
