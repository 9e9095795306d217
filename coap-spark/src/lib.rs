//! The Spark cloud protocol over TCP without I/O: handshake, AES session, CoAP codec, messages, connection.
