package sheet

import (
	"fmt"
	"math"

	"github.com/trefoil-eu/trefoil/internal/people/feed/features"
)

// Diff says in words what changed from an older sheet of the same surface to a newer one. A
// weight counts as changed only where the intervals do not overlap.
func Diff(older, newer *Sheet) []features.Text {
	var out []features.Text
	say := func(en, fr string, args ...any) {
		out = append(out, features.Text{EN: fmt.Sprintf(en, args...), FR: fmt.Sprintf(fr, args...)})
	}
	if older.Model != newer.Model {
		say("A new model ranks: %.12s instead of %.12s.", "Un nouveau modèle classe : %.12s au lieu de %.12s.", newer.Model, older.Model)
	}
	if older.Features != newer.Features {
		say("The parameters are described anew.", "Les paramètres sont décrits à nouveau.")
	}
	before := map[string]Parameter{}
	for _, p := range older.Parameters {
		before[p.Group] = p
	}
	for _, p := range newer.Parameters {
		was, ok := before[p.Group]
		delete(before, p.Group)
		if !ok {
			out = append(out, features.Text{
				EN: fmt.Sprintf("New: “%s” weighs %s.", p.Name.EN, Percent(p.Share)),
				FR: fmt.Sprintf("Nouveau : « %s » pèse %s.", p.Name.FR, Percent(p.Share))})
			continue
		}
		out = append(out, changes(was, p)...)
	}
	for _, p := range older.Parameters {
		if _, gone := before[p.Group]; gone {
			out = append(out, features.Text{
				EN: fmt.Sprintf("Gone: “%s”, which weighed %s.", p.Name.EN, Percent(p.Share)),
				FR: fmt.Sprintf("Supprimé : « %s », qui pesait %s.", p.Name.FR, Percent(p.Share))})
		}
	}
	if len(out) == 0 {
		say("Nothing changed beyond what chance explains.", "Rien n’a changé au-delà de ce que le hasard explique.")
	}
	return out
}

func changes(was, is Parameter) []features.Text {
	var out []features.Text
	if was.Personal != is.Personal {
		en, fr := "no longer counts as personal: it stays without profiling", "ne compte plus comme personnel : il reste sans profilage"
		if is.Personal {
			en, fr = "now counts as personal: it is neutral without profiling", "compte désormais comme personnel : il est neutre sans profilage"
		}
		out = append(out, features.Text{EN: fmt.Sprintf("“%s” %s.", is.Name.EN, en), FR: fmt.Sprintf("« %s » %s.", is.Name.FR, fr)})
	}
	if is.Low <= was.High && was.Low <= is.High {
		return out
	}
	en, fr := "more", "plus"
	if is.Share < was.Share {
		en, fr = "less", "moins"
	}
	points := math.Round(100 * math.Abs(is.Share-was.Share))
	return append(out, features.Text{
		EN: fmt.Sprintf("“%s” weighs %s than before: %s instead of %s (%.0f points).", is.Name.EN, en, Percent(is.Share), Percent(was.Share), points),
		FR: fmt.Sprintf("« %s » pèse %s qu’avant : %s au lieu de %s (%.0f points).", is.Name.FR, fr, Percent(is.Share), Percent(was.Share), points)})
}
