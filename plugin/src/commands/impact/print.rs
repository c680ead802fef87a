//! How that is shown.

use super::assess::{Assessment, Judged, Result};
use crate::text::{Line, Span, Style, Table};

/// The summary, and what would not start; all there is if it is asked for.
pub fn lines(assessment: &Assessment, wide: bool) -> Vec<Line> {
    let mut lines = summary(assessment);
    let shown: Vec<&Judged> =
        assessment.workloads.iter().filter(|j| wide || j.result != Result::Starts).collect();
    if shown.is_empty() {
        return lines;
    }
    let mut table = Table::new(&["NAMESPACE", "WORKLOAD", "PODS", "RESULT", "SIGNED BY", "IMAGE"]);
    let mut reasons = Vec::new();
    for judged in shown {
        let workload = &judged.workload;
        for image in judged.verdicts.iter().filter(|image| wide || image.result != Result::Starts) {
            let (style, result) = said(image.result);
            table.row([
                Span::from(&workload.namespace),
                format!("{} {}", workload.kind, workload.name).into(),
                workload.pods.to_string().into(),
                Span::new(style, result),
                Span::from(&image.signed_by),
                Span::from(shortened(&image.image)),
            ]);
            if let Some(because) = &image.because {
                let reason = (shortened(&image.image), because.clone());
                if !reasons.contains(&reason) {
                    reasons.push(reason);
                }
            }
        }
    }
    lines.push(Line::empty());
    lines.extend(table.lines());
    if !reasons.is_empty() {
        lines.push(Line::empty());
        let reason = |(image, because): (String, String)| Line::from(format!("{image}: {because}"));
        lines.extend(reasons.into_iter().map(reason));
    }
    lines
}

fn summary(assessment: &Assessment) -> Vec<Line> {
    let all = assessment.workloads.len();
    let ended: Vec<String> = assessment.ended.iter().map(u32::to_string).collect();
    let ended = match ended.is_empty() {
        true => String::new(),
        false => format!(" (not accepted any more: {})", ended.join(", ")),
    };
    let where_ = match &*assessment.namespaces {
        [] => {
            format!("; it has no namespace: kubectl signing enroll {} NAMESPACE", assessment.ring)
        }
        [one] => format!(", in namespace {one}"),
        many => format!(", in {} namespaces", many.len()),
    };
    let mut lines =
        vec![Line::new(Style::Bold, format!("{}{ended}: ", assessment.title)).and(format!(
            "{} of ring {} with {}{where_}",
            counted(all, "workload"),
            assessment.ring,
            counted(assessment.images, "image")
        ))];
    for (result, style, text) in [
        (Result::Breaks, Style::Bad, "would not start again, and would now"),
        (Result::RefusedAlready, Style::Bad, "would not start now, either"),
        (Result::Unknown, Style::Warn, "cannot be judged from here"),
        (Result::Starts, Style::Good, "would start"),
    ] {
        let count = assessment.count(result);
        if count > 0 {
            lines.push(Line::new(style, format!("{count:>5} {text}")));
        }
    }
    lines
}

fn counted(count: usize, what: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {what}{s}")
}

/// The digests to sign again.
pub fn resign_list(assessment: &Assessment) -> Vec<Line> {
    assessment.resign.iter().map(Line::from).collect()
}

const fn said(result: Result) -> (Style, &'static str) {
    match result {
        Result::Breaks => (Style::Bad, "breaks"),
        Result::RefusedAlready => (Style::Bad, "refused"),
        Result::Unknown => (Style::Warn, "unknown"),
        Result::Starts => (Style::Good, "starts"),
    }
}

/// An image without most of its digest.
fn shortened(image: &str) -> String {
    match image.split_once("@sha256:") {
        Some((name, digest)) => {
            format!("{name}@sha256:{}…", digest.chars().take(12).collect::<String>())
        }
        None => image.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::assess::{Image, Judged},
        *,
    };
    use crate::{text::plain, workloads::Workload};

    fn judged(kind: &'static str, name: &str, result: Result, because: Option<&str>) -> Judged {
        let image = format!("localhost:5000/{name}@sha256:{}", "a".repeat(64));
        Judged {
            workload: Workload {
                namespace: "checkout-dev".into(),
                kind,
                name: name.into(),
                pods: 2,
                images: vec![image.clone()],
            },
            result,
            verdicts: vec![Image {
                image,
                signed_by: "version 1 (Accepted)".into(),
                result,
                because: because.map(str::to_owned),
            }],
        }
    }

    #[test]
    fn the_summary_comes_first_and_what_starts_only_if_all_is_asked_for() {
        let assessment = Assessment {
            ring: "checkout".into(),
            title: "After the rotation to version 4".into(),
            ended: vec![1],
            namespaces: vec!["checkout-dev".into()],
            images: 3,
            inspections: 3,
            workloads: vec![
                judged("Deployment", "billing", Result::Breaks, Some("sign it again")),
                judged("CronJob", "report", Result::Unknown, Some("registry x is away\x1b[2J")),
                judged("Deployment", "web", Result::Starts, None),
            ],
            resign: Vec::new(),
        };
        assert!(assessment.breaks() && assessment.is_open());
        insta::assert_snapshot!(plain(&lines(&assessment, false)));
        insta::assert_snapshot!(plain(&lines(&assessment, true)));
    }

    #[test]
    fn a_ring_without_a_namespace_says_how_it_gets_one() {
        let assessment = Assessment {
            ring: "checkout".into(),
            title: "Now".into(),
            ended: Vec::new(),
            namespaces: Vec::new(),
            images: 0,
            inspections: 0,
            workloads: Vec::new(),
            resign: Vec::new(),
        };
        insta::assert_snapshot!(plain(&lines(&assessment, false)), @"Now: 0 workloads of ring checkout with 0 images; it has no namespace: kubectl signing enroll checkout NAMESPACE");
    }
}
