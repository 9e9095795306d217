//! The application on the simulated Photon: what the vendor ships, Tinker.
//!
//! A real module cannot run here. Whatever application is installed, this stands for it while it would run.

use std::collections::BTreeMap;

/// Four functions over pins, as in the vendor's default application.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Application {
    pins: BTreeMap<String, i32>,
}

impl Application {
    /// Names of its functions.
    pub const FUNCTIONS: &'static [&'static str] =
        &["digitalread", "digitalwrite", "analogread", "analogwrite"];

    /// Calls a function; -1 for what it does not understand, as Tinker does.
    ///
    /// ```
    /// use spark_sim::Application;
    ///
    /// let mut tinker = Application::default();
    /// assert_eq!(tinker.call(b"digitalwrite", b"D7,HIGH"), 1);
    /// assert_eq!(tinker.call(b"digitalread", b"D7"), 1);
    /// assert_eq!(tinker.call(b"digitalread", b"Q9"), -1);
    /// ```
    pub fn call(&mut self, name: &[u8], argument: &[u8]) -> i32 {
        let Ok(argument) = core::str::from_utf8(argument) else { return -1 };
        let (pin, value) = match argument.split_once([',', ' ']) {
            Some((pin, value)) => (pin, Some(value)),
            None => (argument, None),
        };
        let is_pin = matches!(pin.as_bytes(), [b'D' | b'A', b'0'..=b'7']);
        let value = value.map(|value| match value {
            "HIGH" => Ok(1),
            "LOW" => Ok(0),
            number => number.parse(),
        });
        match (name, is_pin, value) {
            (b"digitalwrite", true, Some(Ok(level @ (0 | 1)))) => self.write(pin, level),
            (b"analogwrite", true, Some(Ok(level @ 0..=255))) => self.write(pin, level),
            (b"digitalread", true, None) => i32::from(self.read(pin) != 0),
            (b"analogread", true, None) => self.read(pin),
            _ => -1,
        }
    }

    fn write(&mut self, pin: &str, level: i32) -> i32 {
        self.pins.insert(pin.to_owned(), level);
        1
    }

    fn read(&self, pin: &str) -> i32 {
        self.pins.get(pin).copied().unwrap_or(0)
    }
}
