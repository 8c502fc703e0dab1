//! Who is killed when, and started again after how long.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::course::Course;
use crate::options::{ClusterOptions, Victim};
use crate::report::{Fault, Kill, Upgraded};
use crate::services::Services;
use crate::subject::Subject;

/// How long one of each kind stays away, in milliseconds: some are back before
/// anyone has noticed, others long after their work was taken over.
const NODE_AWAY_MS: std::ops::Range<u64> = 0..12_000;
const BROKER_AWAY_MS: std::ops::Range<u64> = 0..15_000;
const POSTGRES_AWAY_MS: std::ops::Range<u64> = 0..8_000;
/// The database dies so much more rarely than a node or a broker.
const POSTGRES_RARER: f64 = 2.0;
/// How often a node is started that ends before it answers, because Kafka or
/// PostgreSQL died under its start: as systemd does.
const START_ATTEMPTS: u32 = 5;
/// How often a second node dies with the first.
const TOGETHER: f64 = 0.2;

/// Tasks that kill brokers and the database until they are told to end.
#[derive(Debug)]
pub struct Tormentors {
    tasks: JoinSet<anyhow::Result<Vec<Fault>>>,
    over: watch::Sender<bool>,
}

impl Tormentors {
    /// Starts one for each kind of service that is to be killed.
    #[must_use]
    pub fn start(services: &Arc<Services>, options: &ClusterOptions, seed: u64) -> Self {
        let (over, told) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let brokers = (1..=options.brokers).map(|number| format!("kafka-{number}")).collect();
        let kinds = [
            (Victim::Brokers, brokers, BROKER_AWAY_MS, 1.0),
            (Victim::Postgres, vec!["postgres".to_owned()], POSTGRES_AWAY_MS, POSTGRES_RARER),
        ];
        for (number, (victim, services_of, away_ms, rarer)) in (1..).zip(kinds) {
            if options.kill.contains(&victim) {
                let tormentor = Tormentor {
                    services: Arc::clone(services),
                    victims: services_of,
                    mean: Duration::from_secs_f64(options.fault_every_s * rarer),
                    away_ms,
                    random: StdRng::seed_from_u64(seed.wrapping_add(number)),
                    over: told.clone(),
                };
                tasks.spawn(tormentor.run());
            }
        }
        Self { tasks, over }
    }

    /// Waits until all services are back; what was done to them, in its order.
    ///
    /// # Errors
    /// If one didn't come back.
    pub async fn end(mut self) -> anyhow::Result<Vec<Fault>> {
        self.over.send_replace(true);
        let mut faults = Vec::new();
        while let Some(done) = self.tasks.join_next().await {
            faults.extend(done.context("a task that kills services fell over")??);
        }
        faults.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
        Ok(faults)
    }
}

/// Kills services of one kind, one at a time.
struct Tormentor {
    services: Arc<Services>,
    victims: Vec<String>,
    mean: Duration,
    away_ms: std::ops::Range<u64>,
    random: StdRng,
    over: watch::Receiver<bool>,
}

impl Tormentor {
    async fn run(mut self) -> anyhow::Result<Vec<Fault>> {
        let started = Instant::now();
        let mut faults = Vec::new();
        loop {
            let pause = self.mean.mul_f64(self.random.random_range(0.3..1.7));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = self.over.wait_for(|over| *over) => return Ok(faults),
            }
            let victim = &self.victims[self.random.random_range(0..self.victims.len())];
            let away = Duration::from_millis(self.random.random_range(self.away_ms.clone()));
            let at_s = started.elapsed().as_secs_f64();
            self.services.kill(victim).await?;
            tokio::time::sleep(away).await;
            let again = Instant::now();
            self.services.restart(victim).await?;
            faults.push(Fault {
                what: victim.clone(),
                at_s,
                away_s: away.as_secs_f64(),
                restart_ms: again.elapsed().as_secs_f64() * 1e3,
            });
        }
    }
}

/// Lets the load go on and kills nodes meanwhile.
#[derive(Debug)]
pub struct NodeKiller {
    pub course: Course,
    pub done: Vec<Kill>,
    random: StdRng,
    length: Duration,
    /// None where no node is to be killed.
    mean: Option<Duration>,
    /// Nodes that are dead now.
    dead: Vec<usize>,
    /// Starts that came to nothing because a service died meanwhile.
    pub failed_starts: u32,
    services_die: bool,
    upgrade_to: Option<PathBuf>,
    /// Nodes that were stopped in order and started anew.
    pub upgraded: Vec<Upgraded>,
}

impl NodeKiller {
    #[must_use]
    pub fn new(course: Course, random: StdRng, options: &ClusterOptions) -> Self {
        let kills = options.kill.contains(&Victim::Nodes);
        Self {
            course,
            random,
            done: Vec::new(),
            length: Duration::from_secs_f64(options.seconds),
            mean: kills.then(|| Duration::from_secs_f64(options.fault_every_s)),
            dead: Vec::new(),
            failed_starts: 0,
            upgrade_to: options.upgrade_to.clone(),
            upgraded: Vec::new(),
            services_die: options.kills_services(),
        }
    }

    /// Runs until the load is over.
    ///
    /// # Errors
    /// If a node ends that was not killed, or one doesn't come back.
    pub async fn run(&mut self, subject: &mut Subject) -> anyhow::Result<()> {
        if let Some(program) = self.upgrade_to.take() {
            self.upgrade(subject, &program).await?;
        }
        while let Some(mean) = self.mean {
            let life = mean.mul_f64(self.random.random_range(0.3..1.7));
            if self.course.elapsed() + life >= self.length {
                break;
            }
            self.live(subject, life).await?;
            let first = self.random.random_range(0..subject.nodes.len());
            let mut victims = vec![first];
            if subject.nodes.len() > 2 && self.random.random_bool(TOGETHER) {
                victims.push((first + 1) % subject.nodes.len());
            }
            for victim in victims {
                self.dead.push(victim);
                subject.nodes[victim].kill().await?;
                let at_s = self.course.elapsed().as_secs_f64();
                self.done.push(Kill { at_s, restart_ms: None });
            }
            let away = Duration::from_millis(self.random.random_range(NODE_AWAY_MS));
            self.live(subject, away).await?;
            self.revive(subject).await?;
        }
        self.live(subject, self.length.saturating_sub(self.course.elapsed())).await
    }

    /// One node after another, spread over the load.
    async fn upgrade(&mut self, subject: &mut Subject, program: &Path) -> anyhow::Result<()> {
        let nodes = u32::try_from(subject.nodes.len())?;
        for number in 0..subject.nodes.len() {
            self.live(subject, self.length / (nodes + 1)).await?;
            let at_s = self.course.elapsed().as_secs_f64();
            let node = &mut subject.nodes[number];
            let began = Instant::now();
            node.stop().await?;
            let stopped_ms = began.elapsed().as_secs_f64() * 1e3;
            node.set_program(program)?;
            let again = Instant::now();
            node.start()?;
            node.answers().await?;
            let restart_ms = again.elapsed().as_secs_f64() * 1e3;
            self.upgraded.push(Upgraded { at_s, stopped_ms, restart_ms });
        }
        Ok(())
    }

    /// Starts the nodes again that are dead, and waits until they answer.
    ///
    /// # Errors
    /// If one doesn't.
    pub async fn revive(&mut self, subject: &mut Subject) -> anyhow::Result<()> {
        let again = Instant::now();
        for &number in &self.dead {
            subject.nodes[number].start()?;
        }
        let killed = self.done.len() - self.dead.len();
        for (kill, number) in self.done[killed..].iter_mut().zip(std::mem::take(&mut self.dead)) {
            let node = &mut subject.nodes[number];
            for attempt in 1.. {
                let Err(error) = node.answers().await else { break };
                if !self.services_die || attempt == START_ATTEMPTS {
                    return Err(error);
                }
                self.failed_starts += 1;
                node.start()?;
            }
            kill.restart_ms = Some(again.elapsed().as_secs_f64() * 1e3);
        }
        Ok(())
    }

    async fn live(&mut self, subject: &mut Subject, life: Duration) -> anyhow::Result<()> {
        let length = self.length.as_secs_f64();
        let share = |course: &Course| course.elapsed().as_secs_f64() / length;
        self.course.go_on(subject, life, share).await
    }
}
