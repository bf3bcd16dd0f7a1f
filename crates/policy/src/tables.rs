//! An app's patterns, compiled once for each kind of reading in which they differ.

use crate::pattern::Form;
use crate::reading::{Layout, Reading};
use crate::table::Table;
use crate::text::Text;

/// The tables of one app.
#[derive(Debug)]
pub(crate) struct Tables {
    /// One for each combination of letter case, decoding and page.
    kinds: [Kind; 8],
    tables: Vec<Vec<Table>>,
    /// Whether some pattern speaks of letter case.
    pub(crate) case_matters: bool,
    /// Whether some pattern differs between raw and decoded paths.
    pub(crate) form_matters: bool,
}

/// What serves one kind of reading.
#[derive(Debug, Default)]
struct Kind {
    layout: Layout,
    /// Index into [`Tables::tables`].
    tables: usize,
}

/// What a table is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TableFor {
    pub(crate) fold: bool,
    pub(crate) form: Form,
    /// For pages, which have no base path and no locale in front.
    pub(crate) page: bool,
}

impl Tables {
    /// `make` compiles the patterns; several tables where they have different wrappers. Only what
    /// the three conditions tell apart is compiled apart.
    pub(crate) fn new(
        layout: &Layout,
        forms: [Form; 2],
        case_matters: bool,
        form_matters: bool,
        mut make: impl FnMut(TableFor) -> Vec<Table>,
    ) -> Self {
        let mut made: Vec<TableFor> = Vec::new();
        let mut tables = Vec::new();
        let kinds = std::array::from_fn(|index| {
            let [fold, decoded, page] = [1, 2, 4].map(|bit| index & bit != 0);
            let form = forms[usize::from(decoded)];
            let key = TableFor {
                fold: fold && case_matters,
                form: if form_matters { form } else { forms[0] },
                page: page && !layout.is_plain(),
            };
            let known = made.iter().position(|other| *other == key);
            let index = known.unwrap_or_else(|| {
                made.push(key);
                tables.push(make(key));
                made.len() - 1
            });
            let layout = if fold { layout.to_ascii_lowercase() } else { layout.clone() };
            Kind { layout, tables: index }
        });
        Self { kinds, tables, case_matters, form_matters }
    }

    fn kind(&self, reading: Reading) -> &Kind {
        let bits = [(reading.any_case, 1), (reading.decoded, 2), (reading.page, 4)];
        &self.kinds[bits.into_iter().filter(|(set, _)| *set).map(|(_, bit)| bit).sum::<usize>()]
    }

    pub(crate) fn layout(&self, reading: Reading) -> &Layout {
        &self.kind(reading).layout
    }

    /// The first rule that matches and that `counts`.
    pub(crate) fn first(
        &self,
        reading: Reading,
        text: &Text<'_>,
        counts: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let tables = &self.tables[self.kind(reading).tables];
        tables.iter().filter_map(|table| table.first(text, &counts)).min()
    }
}
