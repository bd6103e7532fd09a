package trefoil

import "slices"

// Forms returns, for each category, the forms in which the dataset holds its columns, sorted:
// what Access.Forms of every record of this dataset is. Withheld columns show nothing and are
// left out; columns without a category count as "neutral" if their trait says so, else as
// "unclassified". It is never nil.
func (d *Definition) Forms() map[string][]string {
	forms := map[string][]string{}
	for _, c := range d.Columns {
		category := c.Category
		switch {
		case c.Form == "withheld":
			continue
		case category == "" && c.Trait == "neutral":
			category = "neutral"
		case category == "":
			category = "unclassified"
		}
		if !slices.Contains(forms[category], c.Form) {
			forms[category] = append(forms[category], c.Form)
		}
	}
	for _, f := range forms {
		slices.Sort(f)
	}
	return forms
}
