use super::*;
use crate::sonoff::http::json_response;
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use proptest::prelude::*;

const NOW: Duration = Duration::ZERO;

fn info() -> DeviceInfo {
    DeviceInfo {
        device_id: DeviceId::new("1000abcdef").unwrap(),
        api_key: ApiKey::new("11111111-2222-4333-8444-555555555555").unwrap(),
    }
}

fn access() -> Access {
    Access::new("testnet", "secret-123", "192.168.77.10", 8443).unwrap()
}

/// A client that has sent its request, and the request.
fn asked(client: &mut Provisioning) -> Vec<u8> {
    match client.poll_output() {
        Some(Output::Send(request)) => request.to_vec(),
        other => panic!("{other:?}"),
    }
}

fn begun() -> Provisioning {
    let mut client = Provisioning::new(NOW, access());
    assert_eq!(client.poll_output(), Some(Output::Connect));
    client.connected(NOW);
    client
}

fn told() -> Provisioning {
    let mut client = begun();
    assert_eq!(ApRequest::find(&asked(&mut client)), Some(ApRequest::Device));
    client.handle_input(NOW, &ApRequest::device_answer(&info()));
    assert_eq!(ApRequest::find(&asked(&mut client)), Some(ApRequest::Ap(access())));
    client
}

fn failure(client: &mut Provisioning) -> ProvisioningError {
    let failure = client.outcome().unwrap().unwrap_err();
    while client.poll_output().is_some() {}
    assert_eq!(client.next_deadline(), None);
    failure
}

#[test]
fn client_and_device_agree() {
    for piece in [1, 7, 1000] {
        let mut client = told();
        for piece in ApRequest::ap_answer(0).chunks(piece) {
            assert_eq!(client.outcome(), None);
            client.handle_input(NOW, piece);
        }
        assert_eq!(client.poll_output(), Some(Output::Close));
        assert_eq!(client.poll_output(), None);
        assert_eq!(client.outcome(), Some(Ok(&info())));
    }
}

#[test]
fn device_may_close_after_each_answer() {
    let mut client = begun();
    asked(&mut client);
    client.handle_input(NOW, &ApRequest::device_answer(&info()));
    client.closed(NOW);
    assert_eq!(client.poll_output(), Some(Output::Connect));
    client.connected(NOW);
    assert!(asked(&mut client).starts_with(b"POST /ap"));
    client.closed(NOW);
    assert_eq!(failure(&mut client), ProvisioningError::NoAnswer);
}

#[test]
fn silence_ends_after_its_time() {
    let late = NOW + ANSWER;
    let mut client = Provisioning::new(NOW, access());
    client.handle_deadline(late - Duration::from_millis(1));
    assert_eq!(client.outcome(), None);
    client.handle_deadline(late);
    assert_eq!(failure(&mut client), ProvisioningError::NotConnected);
    let mut client = begun();
    asked(&mut client);
    client.handle_deadline(late);
    assert_eq!(failure(&mut client), ProvisioningError::NoDevice);
    let mut client = told();
    client.handle_deadline(late);
    assert_eq!(failure(&mut client), ProvisioningError::NoAnswer);
    let mut client = Provisioning::new(NOW, access());
    client.closed(NOW);
    assert_eq!(failure(&mut client), ProvisioningError::NotConnected);
}

#[test]
fn other_answers_are_told_apart() {
    let answered = |bytes: &[u8]| {
        let mut client = told();
        client.handle_input(NOW, bytes);
        failure(&mut client)
    };
    assert_eq!(answered(&ApRequest::ap_answer(401)), ProvisioningError::Refused(ApCode::WrongPassword));
    assert_eq!(answered(&json_response("[]", true)), ProvisioningError::NotJson);
    assert_eq!(answered(b"HTTP/1.1 404 Not Found\r\n\r\n"), ProvisioningError::Status { status: 404 });
    assert_eq!(answered(&[0; 3000]), ProvisioningError::TooLong);
    assert!(matches!(answered(b"SSH-2.0\r\n"), ProvisioningError::Head(_)));
    assert!(matches!(answered(&json_response("{}", true)), ProvisioningError::Answer { field: "error", .. }));
    let mut client = begun();
    asked(&mut client);
    client.handle_input(NOW, &json_response(r#"{"deviceid":"1000abcdef","accept":"post"}"#, true));
    assert!(matches!(failure(&mut client), ProvisioningError::Answer { field: "apikey", .. }));
    for code in [0, 400, 401, 402, 403, 404, 7] {
        let text = ApCode::new(code).to_string();
        assert!(code == 0 || text.contains(&code.to_string()), "{text}");
    }
}

#[test]
fn answer_without_a_length_is_one_object() {
    let mut client = told();
    client.handle_input(NOW, b"HTTP/1.1 200 OK\r\n\r\n{\"error\"");
    assert_eq!(client.outcome(), None);
    client.handle_input(NOW, b":0}");
    assert!(client.outcome().unwrap().is_ok());
}

#[test]
fn nothing_too_long_is_sent() {
    let new = |ssid: usize, password: usize, server: usize| {
        let text = |length| "x".repeat(length);
        Access::new(&text(ssid), &text(password), &text(server), 1).map(|_| ())
    };
    let too_long = |length, limit| TextError::TooLong { length, limit };
    assert_eq!(new(31, 63, 50), Ok(()));
    assert_eq!(new(31, 0, 1), Ok(()));
    assert_eq!(new(0, 8, 9), Err(AccessError::Ssid(TextError::Empty)));
    assert_eq!(new(32, 8, 9), Err(AccessError::Ssid(too_long(32, 31))));
    assert_eq!(new(31, 64, 9), Err(AccessError::Password(too_long(64, 63))));
    assert_eq!(new(31, 63, 51), Err(AccessError::ServerName(too_long(51, 50))));
    assert_eq!(Access::new("a", "", "b", 0), Err(AccessError::Port));
    let mut client = Provisioning::new(
        NOW,
        Access::new(&"\"".repeat(31), &"\\".repeat(63), &"s".repeat(50), 65535).unwrap(),
    );
    client.poll_output();
    client.connected(NOW);
    asked(&mut client);
    client.handle_input(NOW, &ApRequest::device_answer(&info()));
    assert!(asked(&mut client).len() < limits::AP_REQUEST);
}

#[test]
fn device_finds_requests_by_their_words_and_is_silent_otherwise() {
    let post = |body: &str| {
        let request = format!("POST /ap HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        for end in 0..request.len() {
            assert_eq!(ApRequest::find(&request.as_bytes()[..end]), None, "cut at {end}");
        }
        ApRequest::find(request.as_bytes()).unwrap()
    };
    let body = access().to_json();
    assert_eq!(post(&body), ApRequest::Ap(access()));
    for (from, to) in [
        ("8443", "\"8443\""),
        ("\"port\"", "\"Port\""),
        ("ssid", "SSID"),
        ("password", "pass"),
        ("serverName", "server"),
        ("8443", "70000"),
    ] {
        assert_eq!(post(&body.replace(from, to)), ApRequest::Incomplete, "{from} -> {to}");
    }
    let ApRequest::Ap(cut) = post(&body.replace("testnet", &"ä".repeat(20))) else { panic!() };
    assert_eq!(cut.ssid(), "ä".repeat(15));
    assert_eq!(ApRequest::find(b"GET / HTTP/1.1\r\n\r\n"), None);
}

#[test]
fn keys_and_passwords_are_not_in_debug() {
    let text = format!(
        "{:?}{:?}{:?}",
        told(),
        access(),
        Output::Send(access().to_json().as_bytes().to_vec().into())
    );
    assert!(!text.contains("secret") && !text.contains("8444"), "{text}");
}

proptest! {
    #[test]
    fn any_bytes_end_the_client_or_leave_it_waiting(bytes: Vec<u8>, text in r#"[{}":a-e0-9\r\n ]{0,60}"#) {
        for bytes in [&bytes[..], text.as_bytes()] {
            let mut client = told();
            client.handle_input(NOW, bytes);
            client.handle_deadline(NOW + ANSWER);
            prop_assert!(client.outcome().is_some());
            let _ = ApRequest::find(bytes);
        }
    }
}

#[test]
fn device_in_the_network_is_told_where_its_server_is() {
    let place = ServerPlace::new("192.168.77.10", 8443).unwrap();
    let mut client = Provisioning::new(NOW, place);
    client.poll_output();
    client.connected(NOW);
    assert_eq!(ApRequest::find_in_network(&asked(&mut client)), Some(ApRequest::Device));
    client.handle_input(NOW, &ApRequest::device_answer(&info()));
    let request = asked(&mut client);
    assert_eq!(ApRequest::find_in_network(&request), Some(ApRequest::Server(place)));
    // At its access point it would miss the network, and not answer.
    assert_eq!(ApRequest::find(&request), Some(ApRequest::Incomplete));
    client.handle_input(NOW, &ApRequest::ap_answer(0));
    assert!(client.outcome().unwrap().is_ok());
    // The limits are those of the access point.
    for (name, port, error) in [
        ("", 1, Some(AccessError::ServerName(TextError::Empty))),
        (&"s".repeat(50), 1, None),
        (&"s".repeat(51), 1, Some(AccessError::ServerName(TextError::TooLong { length: 51, limit: 50 }))),
        ("s", 0, Some(AccessError::Port)),
    ] {
        assert_eq!(ServerPlace::new(name, port).err(), error, "{name} {port}");
    }
    let read = |json: &str| {
        let request = format!("POST /ap HTTP/1.1\r\nContent-Length: {}\r\n\r\n{json}", json.len());
        ApRequest::find_in_network(request.as_bytes())
    };
    assert_eq!(read(r#"{"serverName":"192.168.77.10","port":8443}"#), Some(ApRequest::Server(place)));
    for missing in ["", "{", r#"{"serverName":"a"}"#, r#"{"port":1}"#, r#"{"serverName":"a","port":"1"}"#] {
        assert_eq!(read(missing), Some(ApRequest::Incomplete), "{missing}");
    }
}
