//! The results of an axis as a picture, in SVG: instructions at the left, CPU seconds at the right, one line
//! for each service. The same results give the same bytes.

use std::fmt::Write as _;

use super::cost::Cost;
use super::results::Measured;
use super::scene::{Axis, BODY};

const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 320.0;

/// Where the panels begin, and how large they are.
const PANELS: [f64; 2] = [62.0, 470.0];
const TOP: f64 = 48.0;
const PANEL: (f64, f64) = (300.0, 210.0);

/// Of each service: its colour, and the dashes of its line, for those who see no colours.
const LINES: [(&str, &str); 2] = [("#0b5fa5", "none"), ("#b3440e", "7 4")];

/// What is drawn of a cost, and its unit.
type Quantity = (&'static str, fn(&Cost) -> f64);

const QUANTITIES: [Quantity; 2] = [
    ("thousand instructions, user space", |cost| {
        cost.instructions / 1e3
    }),
    ("CPU seconds per million", |cost| {
        cost.cpu_seconds_per_million
    }),
];

/// The picture.
pub fn svg(axis: &Axis, measured: &Measured) -> String {
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\" fill=\"#222\">\n\
         <title>Cost of a request or record by {label}</title>\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n",
        label = axis.label
    );
    for (left, quantity) in PANELS.into_iter().zip(QUANTITIES) {
        panel(&mut text, axis, measured, left, quantity);
    }
    text.push_str("</svg>\n");
    text
}

/// Where values are on a panel.
struct Scale {
    low: f64,
    high: f64,
    is_log: bool,
}

impl Scale {
    /// Between 0 and 1.
    fn at(&self, value: f64) -> f64 {
        if self.is_log {
            (value / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        }
    }

    /// From 0 to a round value over all; with decades where the values span them by nature.
    fn of(values: &[f64], is_log: bool) -> (Self, Vec<f64>) {
        let high = values.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        if is_log {
            let low = values.iter().copied().fold(high, f64::min);
            let low = 10_f64.powf(low.log10().floor());
            let mut ticks = vec![low, low * 10.0];
            while ticks[ticks.len() - 1] < high {
                ticks.push(ticks[ticks.len() - 1] * 10.0);
            }
            return (Self::over(&ticks, is_log), ticks);
        }
        let step = step(high / 5.0);
        let mut ticks = vec![0.0, step];
        while ticks[ticks.len() - 1] < high * 1.05 {
            ticks.push(ticks[ticks.len() - 1] + step);
        }
        (Self::over(&ticks, is_log), ticks)
    }

    fn over(ticks: &[f64], is_log: bool) -> Self {
        Self {
            low: ticks[0],
            high: ticks[ticks.len() - 1],
            is_log,
        }
    }
}

/// 1, 2 or 5 times a power of ten, and no less.
fn step(least: f64) -> f64 {
    let decade = 10_f64.powf(least.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|times| times * decade);
    steps
        .into_iter()
        .find(|step| *step >= least * 0.999)
        .unwrap_or(least)
}

fn panel(text: &mut String, axis: &Axis, measured: &Measured, left: f64, quantity: Quantity) {
    let (unit, of) = quantity;
    let (width, height) = PANEL;
    let services = measured.services();
    let values: Vec<f64> = services
        .iter()
        .flat_map(|(_, costs)| costs.values().map(of))
        .collect();
    let (scale, ticks) = Scale::of(&values, axis.name == BODY);
    let points = Scale {
        low: f64::from(axis.points[0]),
        high: f64::from(axis.points[axis.points.len() - 1]),
        is_log: true,
    };
    // Points keep off the frame.
    let x = |point: u32| left + 14.0 + (width - 28.0) * points.at(f64::from(point));
    let y = |value: f64| TOP + height * (1.0 - scale.at(value));
    for tick in ticks {
        let (right, y) = (left + width, y(tick));
        let _ = writeln!(
            text,
            "<path d=\"M{left} {y:.1}H{right}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            left - 6.0,
            y + 4.0,
            label(tick)
        );
    }
    let bottom = TOP + height;
    for point in axis.points {
        let x = x(*point);
        let _ = writeln!(
            text,
            "<path d=\"M{x:.1} {bottom}v5\" stroke=\"#222\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{point}</text>",
            bottom + 19.0
        );
    }
    let _ = writeln!(
        text,
        "<rect x=\"{left}\" y=\"{TOP}\" width=\"{width}\" height=\"{height}\" fill=\"none\" stroke=\"#222\"/>\n\
         <text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n\
         <text x=\"{left}\" y=\"18\" font-weight=\"bold\">{unit}</text>",
        bottom + 40.0,
        axis.label,
        middle = left + width / 2.0,
    );
    let mut at = left;
    for ((service, costs), line) in services.into_iter().zip(LINES) {
        if costs.is_empty() {
            continue;
        }
        legend(text, at, service, line);
        at += 150.0;
        let place = |(point, cost): (&u32, &Cost)| (x(*point), y(of(cost)));
        curve(text, &costs.iter().map(place).collect::<Vec<_>>(), line);
    }
}

fn legend(text: &mut String, at: f64, service: &str, (colour, dashes): (&str, &str)) {
    let each = if service == "ingest" {
        "request"
    } else {
        "record"
    };
    let _ = writeln!(
        text,
        "<path d=\"M{at} 34h26\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dashes}\"/>\
         <text x=\"{}\" y=\"38\">{service}, a {each}</text>",
        at + 31.0
    );
}

fn curve(text: &mut String, places: &[(f64, f64)], (colour, dashes): (&str, &str)) {
    let mut path = String::new();
    for (n, (x, y)) in places.iter().enumerate() {
        let _ = write!(path, "{}{x:.1} {y:.1}", if n == 0 { 'M' } else { 'L' });
    }
    let _ = writeln!(
        text,
        "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" \
         stroke-dasharray=\"{dashes}\"/>"
    );
    for (x, y) in places {
        let _ = writeln!(
            text,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>"
        );
    }
}

/// A tick's text, with no more digits than it needs.
fn label(tick: f64) -> String {
    let rounded = (tick * 1e6).round() / 1e6;
    format!("{rounded}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trials::scale::results::tests::costs;
    use crate::trials::scale::scene::AXES;

    fn measured(ingest: &[(u32, f64)], processor: &[(u32, f64)]) -> Measured {
        Measured {
            ingest: costs(ingest),
            processor: costs(processor),
            seconds: 1.0,
        }
    }

    fn axis(name: &str) -> &'static Axis {
        AXES.iter().find(|axis| axis.name == name).expect("an axis")
    }

    #[test]
    fn a_picture_is_the_same_each_time_and_within_its_frame() {
        let measured = measured(
            &[(4, 50.0), (20, 51.0), (400, 60.0)],
            &[(4, 150.0), (400, 155.0)],
        );
        let picture = svg(axis("sources"), &measured);
        assert_eq!(picture, svg(axis("sources"), &measured));
        assert_eq!(picture.matches("<circle").count(), 10);
        assert!(picture.len() < 30_000, "{} bytes", picture.len());
        for circle in picture.split("<circle cx=\"").skip(1) {
            let x: f64 = circle.split('"').next().expect("x").parse().expect("x");
            let y: f64 = circle.split('"').nth(2).expect("y").parse().expect("y");
            assert!((0.0..WIDTH).contains(&x), "{x}");
            assert!((TOP..=TOP + PANEL.1).contains(&y), "{y}");
        }
        assert!(picture.contains("thousand instructions"));
        assert!(picture.contains(">400</text>"));
    }

    #[test]
    fn an_axis_without_one_service_has_no_line_of_it() {
        let picture = svg(axis("keys"), &measured(&[], &[(1, 150.0), (20, 151.0)]));
        assert!(!picture.contains("ingest, a request"));
        assert_eq!(picture.matches("<circle").count(), 4);
    }

    #[test]
    fn ticks_are_round_and_cover_all_values() {
        let (scale, ticks) = Scale::of(&[47.0, 160.0], false);
        assert_eq!(ticks, [0.0, 50.0, 100.0, 150.0, 200.0]);
        assert!((scale.at(100.0) - 0.5).abs() < 1e-9);
        let (scale, ticks) = Scale::of(&[30.0, 9_000.0], true);
        assert_eq!(ticks, [10.0, 100.0, 1_000.0, 10_000.0]);
        assert!((scale.at(100.0) - 1.0 / 3.0).abs() < 1e-9);
        assert_eq!(label(0.1 + 0.2), "0.3");
    }
}
