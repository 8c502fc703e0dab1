//! Notices and messages, through the store that is reopened in between.

use schema::{Channel, Purpose, Recipient, UserId};

use super::*;

fn whom() -> DueRecipient {
    let recipient = Recipient::User(UserId(7));
    DueRecipient { tenant: TenantId(1), recipient, channel: Channel::Email, due: 1 }
}

fn notice(transition: u128, alarm: u128, purpose: Purpose) -> NewNotice {
    NewNotice {
        tenant: TenantId(1),
        transition: TransitionId(transition),
        alarm: AlarmId(alarm),
        recipient: whom().recipient,
        channel: Channel::Email,
        purpose,
        source: 12,
        made_at: TimestampMs(100),
        delay_ms: 0,
        due_at: TimestampMs(100),
    }
}

fn message(notices: &[DueNotice]) -> NewMessage {
    NewMessage {
        id: message_id(notices.iter().map(|notice| notice.id)),
        tenant: TenantId(1),
        recipient: whom().recipient,
        channel: Channel::Email,
        address: "eva@example.com".to_owned(),
        kind: "raised",
        severity: Some(Severity::Major),
        content: "{}".to_owned(),
        notices: notices.iter().map(|notice| (notice.sequence, "first")).collect(),
        copy_of: None,
    }
}

/// A store with one raised alarm and its notice.
async fn raised(place: &Place) -> (AlarmStore, Claim) {
    let store = open(place);
    let claim = store.claim(PartitionId(0)).await.unwrap();
    let mut commit = stretch(&claim, 0, 1, vec![transition(1, 9, 10, TransitionKind::Raised)]);
    commit.notices = vec![notice(1, 9, Purpose::Told)];
    store.commit(Arc::new(commit)).await.unwrap();
    (store, claim)
}

async fn due(store: &AlarmStore, now: i64) -> Vec<DueNotice> {
    store.due_notices(&whom(), TimestampMs(now), 100).await.unwrap()
}

fn handed(id: schema::MessageId, state: MessageState, outcome: &'static str) -> Handed {
    let at = TimestampMs(300);
    let answer = "250 ok".to_owned();
    Handed { id, at, state, next_at: at, outcome, answer, reference: Some("q1".to_owned()) }
}

on_both!(a_notice_comes_with_its_transition_and_only_once);

async fn a_notice_comes_with_its_transition_and_only_once(place: Place) {
    let (store, claim) = raised(&place).await;
    // The same again, as a replay whose first commit was not answered would.
    let mut again = stretch(&claim, 1, 2, vec![transition(1, 9, 10, TransitionKind::Raised)]);
    again.notices = vec![notice(1, 9, Purpose::Told)];
    store.commit(Arc::new(again)).await.unwrap();
    // An acknowledgement that changes something, and one that doesn't.
    let seen = |id, at| transition(id, 9, at, TransitionKind::Acknowledged);
    let mut both = stretch(&claim, 2, 3, vec![seen(2, 20), seen(3, 21)]);
    both.notices = vec![notice(2, 9, Purpose::Told), notice(3, 9, Purpose::Told)];
    store.commit(Arc::new(both)).await.unwrap();
    store.close().await;

    let store = open(&place);
    assert_eq!(due(&store, 99).await, []);
    let waiting = due(&store, 100).await;
    let kinds: Vec<&str> = waiting.iter().map(|notice| notice.event.kind.as_str()).collect();
    assert_eq!(kinds, ["alarm_raised", "alarm_acknowledged"]);
    assert!(waiting.iter().all(|notice| notice.state.acknowledged && notice.state.active));
    let expected = DueRecipient { due: 2, ..whom() };
    assert_eq!(store.due_recipients(TimestampMs(100), 10).await.unwrap(), [expected]);
    assert_eq!(store.next_due().await.unwrap(), Some(TimestampMs(100)));
}

on_both!(what_is_decided_is_decided_once_and_whole);

async fn what_is_decided_is_decided_once_and_whole(place: Place) {
    let (store, _) = raised(&place).await;
    let waiting = due(&store, 100).await;
    let reminder = NewNotice { due_at: TimestampMs(900), ..notice(1, 9, Purpose::Reminder(1)) };
    let decisions = || Decisions {
        at: TimestampMs(200),
        messages: vec![message(&waiting)],
        later: vec![reminder.clone()],
        ..Decisions::default()
    };
    store.decide(decisions()).await.unwrap();
    let twice = store.decide(decisions()).await.unwrap_err();
    assert!(!twice.is_retryable(), "{twice}");
    let dropped =
        Decisions { dropped: vec![(waiting[0].sequence, "over")], ..Decisions::default() };
    let late = store.decide(dropped).await.unwrap_err();
    assert!(matches!(late, AlarmStoreError::DecidedElsewhere), "{late}");
    assert_eq!(due(&store, 899).await, []);
    let reminded = due(&store, 900).await;
    assert_eq!(reminded.len(), 1);
    assert!(reminded[0].told_before && reminded[0].purpose == Purpose::Reminder(1));
    let all = store.notices(NoticeQuery { limit: 10, ..NoticeQuery::default() }).await.unwrap();
    let states: Vec<(NoticeState, &str)> =
        all.iter().map(|notice| (notice.state, notice.reason.as_str())).collect();
    assert_eq!(states, [(NoticeState::Waits, "new"), (NoticeState::Told, "first")]);
    let lately = store
        .told_lately(TenantId(1), &whom().recipient, Channel::Email, TimestampMs(0))
        .await
        .unwrap();
    assert_eq!(lately, [ToldLately { at: TimestampMs(200), severity: Some(Severity::Major) }]);
}

on_both!(a_message_that_was_on_its_way_when_the_process_ended_is_handed_over_again);

async fn a_message_that_was_on_its_way_when_the_process_ended_is_handed_over_again(place: Place) {
    let (store, _) = raised(&place).await;
    let new = message(&due(&store, 100).await);
    let id = new.id;
    let decided = Decisions { at: TimestampMs(200), messages: vec![new], ..Decisions::default() };
    store.decide(decided).await.unwrap();
    let taken = store.take_messages(Channel::Email, TimestampMs(200), 10).await.unwrap();
    assert_eq!((taken.len(), taken[0].attempts), (1, 1));
    assert_eq!(store.take_messages(Channel::Email, TimestampMs(200), 10).await.unwrap(), []);
    store.close().await;

    let store = open(&place);
    let interrupted = store.recover_messages(TimestampMs(250)).await.unwrap();
    assert_eq!(interrupted, Interrupted { again: 1, unknown: 0 });
    assert_eq!(store.next_hand_over(Channel::Email).await.unwrap(), Some(TimestampMs(250)));
    let taken = store.take_messages(Channel::Email, TimestampMs(250), 10).await.unwrap();
    assert_eq!((taken[0].id, taken[0].attempts, taken[0].interrupted), (id, 2, 1));
    store.handed(vec![handed(id, MessageState::Sent, "sent")]).await.unwrap();
    let (row, log) = store.message(id).await.unwrap().unwrap();
    assert_eq!((row.state, row.reference.as_deref()), (MessageState::Sent, Some("q1")));
    let outcomes: Vec<&str> = log.iter().map(|line| line.outcome.as_str()).collect();
    assert_eq!(outcomes, ["interrupted", "sent"]);
    let waiting = store.waiting().await.unwrap();
    assert!(waiting.iter().all(|one| one.messages == 0 && one.notices == 0), "{waiting:?}");
}

on_both!(an_sms_whose_answer_never_came_is_not_sent_again_by_itself);

async fn an_sms_whose_answer_never_came_is_not_sent_again_by_itself(place: Place) {
    let store = open(&place);
    let sms = NewMessage { channel: Channel::Sms, ..message(&[]) };
    let (id, at) = (sms.id, TimestampMs(1));
    store.add_message(sms, at, "eva".to_owned()).await.unwrap();
    store.take_messages(Channel::Sms, at, 1).await.unwrap();
    let interrupted = store.recover_messages(TimestampMs(2)).await.unwrap();
    assert_eq!(interrupted, Interrupted { again: 0, unknown: 1 });
    assert_eq!(store.next_hand_over(Channel::Sms).await.unwrap(), None);
    // Its provider knows more, in whatever order it says so.
    let report = |state| Report {
        message: ReportedMessage::Id(id),
        at: TimestampMs(3),
        state,
        answer: "said so".to_owned(),
    };
    for (said, stands) in [
        (MessageState::Sent, MessageState::Sent),
        (MessageState::Failed, MessageState::Failed),
        (MessageState::Delivered, MessageState::Delivered),
        (MessageState::Sent, MessageState::Delivered),
        (MessageState::Failed, MessageState::Delivered),
    ] {
        assert!(store.report(report(said)).await.unwrap());
        let (row, _) = store.message(id).await.unwrap().unwrap();
        assert_eq!(row.state, stands, "after {said:?}");
    }
    let nobody = ReportedMessage::Reference(Channel::Sms, "other".to_owned());
    let stray = Report { message: nobody, ..report(MessageState::Sent) };
    assert!(!store.report(stray).await.unwrap());
}

on_both!(a_report_that_is_quicker_than_the_answer_stays);

async fn a_report_that_is_quicker_than_the_answer_stays(place: Place) {
    let store = open(&place);
    let sms = NewMessage { channel: Channel::Sms, ..message(&[]) };
    let (id, at) = (sms.id, TimestampMs(1));
    store.add_message_on_its_way(sms, at, "eva".to_owned()).await.unwrap();
    let state = MessageState::Delivered;
    let report = Report { message: ReportedMessage::Id(id), at, state, answer: String::new() };
    assert!(store.report(report).await.unwrap());
    store.handed(vec![handed(id, MessageState::Sent, "sent")]).await.unwrap();
    let (row, _) = store.message(id).await.unwrap().unwrap();
    assert_eq!((row.state, row.reference.as_deref()), (state, Some("q1")));
}

on_both!(what_waits_for_a_shelved_alarm_is_due_when_it_is_unshelved);

async fn what_waits_for_a_shelved_alarm_is_due_when_it_is_unshelved(place: Place) {
    let (store, claim) = raised(&place).await;
    let waiting = due(&store, 100).await;
    let held = vec![(waiting[0].sequence, TimestampMs(9_000), "shelved")];
    store.decide(Decisions { held, ..Decisions::default() }).await.unwrap();
    assert_eq!(due(&store, 8_999).await, []);
    let shelved = TransitionKind::Shelved { until: TimestampMs(9_000) };
    let back = TransitionKind::Unshelved { by_time: false };
    let both = vec![transition(4, 9, 50, shelved), transition(5, 9, 400, back)];
    store.commit(Arc::new(stretch(&claim, 1, 2, both))).await.unwrap();
    assert_eq!(due(&store, 399).await, []);
    assert_eq!(due(&store, 400).await.len(), 1);
}

on_both!(a_link_is_used_once_also_over_a_restart);

async fn a_link_is_used_once_also_over_a_restart(place: Place) {
    let store = open(&place);
    let (id, at, expires) = ([3; 16], TimestampMs(10), TimestampMs(1_000));
    assert!(!store.link_used(id).await.unwrap());
    assert!(store.use_link(id, at, expires).await.unwrap());
    assert!(!store.use_link(id, at, expires).await.unwrap());
    store.close().await;
    let store = open(&place);
    assert!(store.link_used(id).await.unwrap());
    // Past its time it is refused by that, and forgotten here.
    assert!(store.use_link([4; 16], TimestampMs(1_001), TimestampMs(2_000)).await.unwrap());
    assert!(!store.link_used(id).await.unwrap());
}

on_both!(what_is_old_and_done_is_forgotten_and_what_waits_is_not);

async fn what_is_old_and_done_is_forgotten_and_what_waits_is_not(place: Place) {
    let (store, claim) = raised(&place).await;
    let told = message(&due(&store, 100).await);
    let id = told.id;
    let decided = Decisions { at: TimestampMs(200), messages: vec![told], ..Decisions::default() };
    store.decide(decided).await.unwrap();
    store.take_messages(Channel::Email, TimestampMs(200), 1).await.unwrap();
    store.handed(vec![handed(id, MessageState::Sent, "sent")]).await.unwrap();
    let mut more = stretch(&claim, 1, 2, vec![transition(6, 8, 10, TransitionKind::Raised)]);
    // Another device's, for one alarm of a rule is active at a time.
    more.transitions[0].originator = Originator::Device(DeviceId(4));
    more.notices = vec![notice(6, 8, Purpose::Told)];
    store.commit(Arc::new(more)).await.unwrap();
    let queued = NewMessage { id: schema::MessageId(5), ..message(&[]) };
    store.add_message(queued, TimestampMs(201), "eva".to_owned()).await.unwrap();

    assert_eq!(store.forget_messages(TimestampMs(150), 100).await.unwrap(), 1, "its notice");
    assert_eq!(store.forget_messages(TimestampMs(1_000), 100).await.unwrap(), 1, "the message");
    assert_eq!(store.forget_messages(TimestampMs(1_000), 100).await.unwrap(), 0);
    assert_eq!(store.message(id).await.unwrap(), None);
    assert!(store.message(schema::MessageId(5)).await.unwrap().is_some());
    assert_eq!(due(&store, 100).await.len(), 1);
}
