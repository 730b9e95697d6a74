//! The steps of a drill, in their order.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::report::{DoneStep, DrillReport, DrillStep, FailedOver, FailedStep};
use super::{Drill, DrillError, DrillProgress, TellDrill};
use crate::model::Region;
use crate::topology::{Assignment, Cut, Mark, stand_in};

/// How long the daemons, and the links, may take to be as a drill wants them before anything begins.
const CHECKED_WITHIN: Duration = Duration::from_secs(60);
/// How long the daemons may take to hear of the cut.
const HEARD_WITHIN: Duration = Duration::from_secs(30);
/// How long the failover may take, and finding out what is at risk.
const MOVED_WITHIN: Duration = Duration::from_secs(90);
/// How long the region may take to come back, and what waited to be delivered.
const REJOINED_WITHIN: Duration = Duration::from_secs(600);
/// How long it may take to count what it had not sent; without that the report says that it was not counted.
const COUNTED_WITHIN: Duration = Duration::from_secs(90);
/// How long the planned failover back may take, and the word of the region's daemons after it.
const BACK_WITHIN: Duration = Duration::from_secs(120);
const BACK_HEARD_WITHIN: Duration = Duration::from_secs(60);
/// How long the comparison may take.
const COMPARED_WITHIN: Duration = Duration::from_secs(6 * 3_600);

/// A drill that is under way.
pub(super) struct Story<'a> {
    drill: &'a Drill,
    stop: &'a CancellationToken,
    tell: &'a TellDrill<'a>,
    /// Where it is, and what is waited for.
    at: Mutex<(DrillStep, String)>,
}

/// What was found before anything was changed, and what the drill goes by.
struct Plan {
    before: Assignment,
    /// Where the role goes, where the region has one to lose.
    to: Option<Region>,
    /// What the cut is named by.
    number: u64,
    cut: String,
}

impl<'a> Story<'a> {
    pub fn new(drill: &'a Drill, stop: &'a CancellationToken, tell: &'a TellDrill<'a>) -> Self {
        Self { drill, stop, tell, at: Mutex::new((DrillStep::Check, String::new())) }
    }

    /// All of it. What fails once anything may have been changed stands in the report.
    pub async fn run(&self) -> Result<DrillReport, DrillError> {
        let drill = self.drill;
        let began = drill.runtime.now();
        let (before, seconds) =
            self.step(DrillStep::Check, CHECKED_WITHIN, drill.check(&|far| self.waits(far))).await?;
        let to = stand_in(&drill.file, &before, &drill.region);
        let number = drill.runtime.random();
        let cut = Cut::new(drill.region.clone(), began, String::new(), number).id;
        let plan = Plan { before, to, number, cut };
        let mut report = DrillReport::new(drill, plan.before.effective(&drill.file), began);
        report.steps.push(DoneStep { step: DrillStep::Check, seconds });
        if let Err(error) = self.tell_all(&plan, &mut report).await {
            report.failed = Some(self.give_up(&plan, &error).await);
        }
        report.ended = drill.runtime.now();
        Ok(report)
    }

    async fn tell_all(&self, plan: &Plan, report: &mut DrillReport) -> Result<(), DrillError> {
        let cut_at = self.cut_off(plan, report).await?;
        let mark = match &plan.to {
            Some(to) => Some(self.fail_over(to, cut_at, report).await?),
            None => None,
        };
        self.rejoin(plan, mark.as_ref(), cut_at, report).await?;
        if mark.is_some() {
            self.fail_back(plan, report).await?;
        }
        self.compare(report).await
    }

    async fn cut_off(&self, plan: &Plan, report: &mut DrillReport) -> Result<Instant, DrillError> {
        let (drill, cut_at) = (self.drill, self.drill.runtime.instant());
        let work = async {
            drill.begin_cut(plan.number).await?;
            let heard = drill.until_obeyed(
                |obeyed| obeyed.cut.as_ref() == Some(&plan.cut),
                |far| self.waits(format!("of the cut have heard {far}")),
            );
            heard.await;
            Ok(())
        };
        self.done(DrillStep::Cut, HEARD_WITHIN, work, report).await?;
        Ok(cut_at)
    }

    /// What a person does whose region is gone, and beside that what that person could not know.
    async fn fail_over(&self, to: &Region, cut_at: Instant, report: &mut DrillReport) -> Result<Mark, DrillError> {
        let (drill, region) = (self.drill, &self.drill.region);
        let work = async {
            let (lost, whole) = (drill.failover(to, Some(region), true), drill.failover(to, Some(region), false));
            let moved = async {
                let survey = lost.survey(true).await?;
                let done = lost.force(&survey, &mut |progress| (self.tell)(DrillProgress::Failover(progress))).await?;
                Ok::<_, DrillError>((survey, done, cut_at.elapsed()))
            };
            let (moved, exact) = join(moved, whole.risk(region, None)).await;
            let (survey, done, serving) = moved?;
            let mark = done.assignment.mark.clone();
            let failover = FailedOver {
                to: to.clone(),
                epoch: mark.epoch,
                estimate: survey.risk,
                exact,
                serving_seconds: serving.as_secs_f64(),
                command_seconds: done.seconds,
                unsent: None,
            };
            Ok((mark, done.serving, failover))
        };
        let (mark, serving, failover) = self.done(DrillStep::FailOver, MOVED_WITHIN, work, report).await?;
        report.failover = Some(failover);
        if serving { Ok(mark) } else { Err(DrillError::Silent { region: to.clone() }) }
    }

    async fn rejoin(
        &self,
        plan: &Plan,
        moved: Option<&Mark>,
        cut_at: Instant,
        report: &mut DrillReport,
    ) -> Result<(), DrillError> {
        let drill = self.drill;
        let work = async {
            self.waits(format!("{} is cut off for {:?} at least", drill.region, drill.hold));
            sleep_until(cut_at + drill.hold).await;
            let stands = drill.end_cut(&plan.cut).await;
            if !stands.is_empty() {
                return Err(drill.stands(&stands));
            }
            let (cut_for, joined) = (cut_at.elapsed().min(drill.deadline), drill.runtime.instant());
            let since = drill.now();
            let mark = moved.unwrap_or(&plan.before.mark);
            let heard = drill.until_obeyed(
                |obeyed| obeyed.cut.is_none() && obeyed.mark >= *mark,
                |far| self.waits(format!("of its end have heard {far}")),
            );
            heard.await;
            let role = joined.elapsed();
            let delivered = async {
                drill.until_synced(&since, |far| self.waits(format!("not up to date: {far}"))).await;
                joined.elapsed()
            };
            let counted = async {
                let unsent = timeout(COUNTED_WITHIN, drill.unsent(moved?)).await;
                unsent.ok()
            };
            let (recovered, unsent) = join(delivered, counted).await;
            Ok((cut_for, role, recovered, unsent))
        };
        let within = REJOINED_WITHIN + drill.hold;
        let (cut_for, role, recovered, unsent) = self.done(DrillStep::Rejoin, within, work, report).await?;
        report.cut_seconds = Some(cut_for.as_secs_f64());
        (report.role_seconds, report.recovered_seconds) = (Some(role.as_secs_f64()), Some(recovered.as_secs_f64()));
        if let Some(failover) = &mut report.failover {
            failover.unsent = unsent;
        }
        Ok(())
    }

    async fn fail_back(&self, plan: &Plan, report: &mut DrillReport) -> Result<(), DrillError> {
        let drill = self.drill;
        (self.tell)(self.begins(DrillStep::FailBack));
        let began = drill.runtime.instant();
        // It gives up by itself when it is told to, and takes back what it has begun.
        let back = drill.failover(&drill.region, None, false);
        let mut tell = |progress| (self.tell)(DrillProgress::Failover(progress));
        let done = back.planned(BACK_WITHIN, self.stop, &mut tell).await?;
        if !done.serving {
            return Err(DrillError::Silent { region: drill.region.clone() });
        }
        if done.assignment.effective(&drill.file) != plan.before.effective(&drill.file) {
            return Err(DrillError::OtherRoles);
        }
        let heard = drill.until_obeyed(
            |obeyed| obeyed.mark >= done.assignment.mark,
            |far| self.waits(format!("of the roles have heard {far}")),
        );
        timeout(BACK_HEARD_WITHIN, heard).await.map_err(|_| self.late(BACK_HEARD_WITHIN))?;
        report.back_seconds = Some(done.seconds);
        report.steps.push(DoneStep { step: DrillStep::FailBack, seconds: began.elapsed().as_secs_f64() });
        Ok(())
    }

    async fn compare(&self, report: &mut DrillReport) -> Result<(), DrillError> {
        let work = self.drill.compare(|text| {
            self.waits(text);
        });
        report.compared = Some(self.done(DrillStep::Compare, COMPARED_WITHIN, work, report).await?);
        Ok(())
    }

    /// Ends the cut, whatever has failed, and finds out what is to be done next.
    async fn give_up(&self, plan: &Plan, error: &DrillError) -> FailedStep {
        let (drill, step) = (self.drill, self.lock().0);
        let mut next = Vec::new();
        let stands = drill.end_cut(&plan.cut).await;
        match stands.is_empty() {
            true => next.push(format!("The cut has ended: {} is joined to the others.", drill.region)),
            false => next.push(format!("Beware: {}.", drill.stands(&stands))),
        }
        let (region, before) = (&drill.region, &plan.before);
        let now = drill.present().await;
        next.push(match now {
            Some(now) if now.effective(&drill.file) == before.effective(&drill.file) => {
                "The roles are as they were before.".to_owned()
            }
            Some(now) => format!(
                "The roles have moved (epoch {}). When `tablerelay status` shows every link flowing, bring the role back: \
                 `tablerelay failover --planned --to {region}`.",
                now.mark.epoch
            ),
            None => "Whether the roles have moved could not be read: see `tablerelay status`.".to_owned(),
        });
        FailedStep { step, why: error.to_string(), next }
    }

    /// A step with its deadline; it is let go when somebody asks for the end.
    async fn step<T>(
        &self,
        step: DrillStep,
        within: Duration,
        work: impl Future<Output = Result<T, DrillError>>,
    ) -> Result<(T, f64), DrillError> {
        (self.tell)(self.begins(step));
        let began = self.drill.runtime.instant();
        let done = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Err(DrillError::Stopped),
            done = timeout(within, work) => done.map_err(|_| self.late(within))??,
        };
        Ok((done, began.elapsed().as_secs_f64()))
    }

    /// The same, and it stands in the report.
    async fn done<T>(
        &self,
        step: DrillStep,
        within: Duration,
        work: impl Future<Output = Result<T, DrillError>>,
        report: &mut DrillReport,
    ) -> Result<T, DrillError> {
        let (done, seconds) = self.step(step, within, work).await?;
        report.steps.push(DoneStep { step, seconds });
        Ok(done)
    }

    fn begins(&self, step: DrillStep) -> DrillProgress {
        *self.lock() = (step, String::new());
        DrillProgress::Begins(step)
    }

    fn waits(&self, text: String) {
        self.lock().1.clone_from(&text);
        (self.tell)(DrillProgress::Waits(text));
    }

    fn late(&self, within: Duration) -> DrillError {
        DrillError::Late { seconds: within.as_secs(), what: self.lock().1.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, (DrillStep, String)> {
        self.at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
