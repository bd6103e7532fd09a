package monitor

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/trefoil-eu/trefoil/internal/rules/law"
)

// Looser lists what other rules allow beyond old ones, by the names of the fields, without
// anybody's name. None: they are tighter or the same. The comparer is strict: a field that it does
// not know, and a change that it cannot place, loosen.
func Looser(old, other *Rules) []string {
	l := &looser{}
	tighter := map[string]func(path string, a, b any){
		"principals":        keyed(l, func(p Principal) string { return p.ID }, l.principal),
		"instruments":       keyed(l, func(i Instrument) string { return i.ID }, l.instrument),
		"approvers":         keyed(l, func(a Approver) string { return a.Name + " " + a.Key }, l.approver),
		"approvals":         l.approvals,
		"datasets":          keyed(l, func(d DatasetRule) string { return d.Name }, l.dataset),
		"entities":          l.entities,
		"transfer_purposes": l.fewer,
		"policies":          l.known,
		"catalogs":          l.known,
		"binaries":          l.known,
		"ceilings":          l.ceilings,
		"clock_doubt":       l.shorter,
		"permit_term":       l.shorter,
		"grace":             l.shorter,
		"follow":            l.shorter,
		"valve":             l.valve,
		"office_hours":      l.hours,
	}
	l.fields("", reflect.ValueOf(*old), reflect.ValueOf(*other), tighter)
	l.persons(old, other)
	slices.Sort(l.found)
	return slices.Compact(l.found)
}

type looser struct{ found []string }

func (l *looser) add(path, format string, args ...any) {
	l.found = append(l.found, strings.TrimPrefix(path, ".")+": "+fmt.Sprintf(format, args...))
}

// fields compares two structs of one type. A field that differs and has no comparer loosens.
func (l *looser) fields(path string, a, b reflect.Value, known map[string]func(string, any, any)) {
	for i := range a.NumField() {
		f := a.Type().Field(i)
		if !f.IsExported() {
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		x, y := a.Field(i).Interface(), b.Field(i).Interface()
		switch compare := known[name]; {
		case same(x, y):
		case compare == nil:
			l.add(path+"."+name, "is another")
		default:
			compare(path+"."+name, x, y)
		}
	}
}

// same is deep equality for which an empty list is no list.
func same(x, y any) bool {
	a, b := reflect.ValueOf(x), reflect.ValueOf(y)
	if k := a.Kind(); (k == reflect.Slice || k == reflect.Map) && a.Len() == 0 && b.Len() == 0 {
		return true
	}
	return reflect.DeepEqual(x, y)
}

// keyed compares lists by their elements' keys: an element less is tighter, one more is looser,
// and so is any element when keys are not unique.
func keyed[T any](l *looser, key func(T) string, element func(path string, a, b T)) func(string, any, any) {
	return func(path string, x, y any) {
		a, b := x.([]T), y.([]T)
		index := map[string]T{}
		for _, v := range a {
			if _, twice := index[key(v)]; twice {
				l.add(path, "names one thing twice")
				return
			}
			index[key(v)] = v
		}
		seen := map[string]bool{}
		added := 0
		for _, v := range b {
			old, had := index[key(v)]
			switch {
			case seen[key(v)]:
				l.add(path, "names one thing twice")
			case !had:
				added++
			case !same(old, v):
				element(path, old, v)
			}
			seen[key(v)] = true
		}
		if added > 0 {
			l.add(path, "%d more", added)
		}
	}
}

func (l *looser) principal(path string, a, b Principal) {
	l.fields(path, reflect.ValueOf(a), reflect.ValueOf(b), map[string]func(string, any, any){"groups": l.fewer})
}

func (l *looser) instrument(path string, a, b Instrument) {
	l.fields(path, reflect.ValueOf(a), reflect.ValueOf(b), map[string]func(string, any, any){
		"purposes": l.fewer,
		"until": func(path string, x, y any) {
			if was, is := day(x.(string)), day(y.(string)); is.IsZero() || !was.IsZero() && is.After(was) {
				l.add(path, "later")
			}
		},
	})
}

// entities may lose one; anything else moves a country or a scope.
func (l *looser) entities(path string, x, y any) {
	a, b := x.(map[string]Entity), y.(map[string]Entity)
	for name, e := range b {
		if old, had := a[name]; !had || !same(old, e) {
			l.add(path, "one is new or another")
		}
	}
}

func (l *looser) dataset(path string, a, b DatasetRule) {
	path += "." + a.Name
	l.fields(path, reflect.ValueOf(a), reflect.ValueOf(b), map[string]func(string, any, any){
		"definition": func(path string, x, y any) {
			if x.(string) != "" {
				l.add(path, "is another, or is not pinned")
			}
		},
		"acknowledge": func(path string, _, y any) {
			if y.(string) != AcknowledgeOfficer {
				l.add(path, "no officer is asked")
			}
		},
		"open": l.openings,
	})
}

// openings are looked through in order, and the first that fits decides. So one that asks for
// something may only stay as it is, or ask for more: taken away or narrowed, it uncovers the next.
func (l *looser) openings(path string, x, y any) {
	a, b := x.([]Opening), y.([]Opening)
	next := 0
	for _, o := range b {
		at := -1
		for i := next; i < len(a); i++ {
			if narrower(a[i], o) {
				at = i
				break
			}
			if asks(a[i]) {
				break
			}
		}
		if at < 0 {
			l.add(path, "opens what was not open, or no longer asks for what it asked")
			return
		}
		next = at + 1
	}
	for _, o := range a[next:] {
		if asks(o) {
			l.add(path, "no longer asks for what it asked")
			return
		}
	}
}

func asks(o Opening) bool { return o.Grant || o.Hours }

// narrower reports whether o opens no more than was, at the same place of the list.
func narrower(was, o Opening) bool {
	if asks(was) {
		return same(was.Groups, o.Groups) && was.Where == o.Where && was.Class == o.Class && (!was.Grant || o.Grant) && (!was.Hours || o.Hours)
	}
	groups := !slices.ContainsFunc(o.Groups, func(g string) bool { return !slices.Contains(was.Groups, g) && !slices.Contains(was.Groups, "*") })
	return groups && whereRank(o.Where) >= whereRank(was.Where) && (o.Class == was.Class || o.Class == law.ClassPseudonymised)
}

// fewer is tighter for a list of names of which each allows something. In such a list "*" is a
// name like any other.
func (l *looser) fewer(path string, x, y any) {
	a, b := x.([]string), y.([]string)
	if slices.ContainsFunc(b, func(v string) bool { return !slices.Contains(a, v) }) {
		l.add(path, "names more")
	}
}

// covers is fewer for a list in which "*" is everything.
func (l *looser) covers(path string, x, y any) {
	if !slices.Contains(x.([]string), "*") {
		l.fewer(path, x, y)
	}
}

// known is fewer for a list of which an empty one allows everything.
func (l *looser) known(path string, x, y any) {
	a, b := x.([]string), y.([]string)
	switch {
	case len(b) == 0:
		l.add(path, "is no longer checked")
	case len(a) > 0:
		l.fewer(path, x, y)
	}
}

// ceilings may only sink. Zero is no ceiling at all.
func (l *looser) ceilings(path string, x, y any) {
	a, b := reflect.ValueOf(x), reflect.ValueOf(y)
	for i := range a.NumField() {
		name, _, _ := strings.Cut(a.Type().Field(i).Tag.Get("yaml"), ",")
		was, is := a.Field(i).Int(), b.Field(i).Int()
		if is != was && (is == 0 || was != 0 && is > was) {
			l.add(path+"."+name, "is higher")
		}
	}
}

func (l *looser) shorter(path string, x, y any) {
	if duration(y.(string)) > duration(x.(string)) {
		l.add(path, "is longer")
	}
}

func (l *looser) valve(path string, _, y any) {
	if y.(string) != ValveRequired {
		l.add(path, "is no longer required")
	}
}

// hours may be named where there were none: that alone opens nothing.
func (l *looser) hours(path string, x, _ any) {
	if x.(*Hours) != nil {
		l.add(path, "are others")
	}
}
