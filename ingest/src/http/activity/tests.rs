use super::*;

#[test]
fn a_connection_whose_request_begins_meanwhile_does_not_end_for_another() {
    for http2 in [false, true] {
        let activity = Arc::new(Activity::new());
        activity.handshaken(http2);
        activity.evict(Eviction::Gently);
        assert_eq!(activity.standing(), Standing::Leaving);
        assert_eq!(activity.leave(), Some(Eviction::Gently));
        // Over HTTP/2 bytes are no request yet, and an end in good order answers what comes.
        activity.read(b"POST");
        let expected = http2.then_some(Eviction::Gently);
        assert_eq!(activity.leave(), expected);
        activity.evict(Eviction::Gently);
        let version = if http2 {
            Version::HTTP_2
        } else {
            Version::HTTP_11
        };
        let request = activity.request(version);
        assert_eq!(activity.leave(), None);
        assert_eq!(activity.standing(), Standing::Busy);
        request.answered();
        assert!(matches!(activity.standing(), Standing::Idle(_)));
    }
}

#[test]
fn a_first_request_has_its_time_to_arrive_and_a_handshake_too() {
    let pass = |activity: &Activity, time| activity.state().quiet -= time;
    let is_arriving = |activity: &Activity| activity.standing() == Standing::Arriving;
    let (silent, secured) = (Activity::new(), Activity::new());
    secured.read(b"hello");
    assert!(is_arriving(&silent) && is_arriving(&secured));
    pass(&silent, ARRIVAL);
    pass(&secured, ARRIVAL);
    // It waits for a handshake that we compute.
    assert!(!is_arriving(&silent) && is_arriving(&secured));
    secured.handshaken(false);
    assert!(is_arriving(&secured));
    pass(&secured, ARRIVAL);
    assert!(!is_arriving(&secured));
    let unfinished = Activity::new();
    unfinished.read(b"hello");
    pass(&unfinished, YOUTH);
    assert!(!is_arriving(&unfinished));
}
