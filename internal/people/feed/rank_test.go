package feed_test

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/trefoil-eu/trefoil/internal/people/feed"
	"github.com/trefoil-eu/trefoil/internal/people/feed/decision"
	"github.com/trefoil-eu/trefoil/internal/people/feed/model"
)

func TestTheOrderIsThatOfTheModelsScores(t *testing.T) {
	w := start(t)
	m, err := model.ReadFile(w.config.Surfaces["for-you"].Model)
	if err != nil {
		t.Fatal(err)
	}
	q := ask("anna", 200, 1)
	a := rank(t, w, q)
	if a.Model != m.Hash || !a.Profiling || len(a.Order) != 200 {
		t.Fatalf("%d items by %s", len(a.Order), a.Model)
	}
	for i, id := range a.Order {
		at := slices.IndexFunc(q.Items, func(x feed.RequestItem) bool { return x.ID == id })
		if got := m.Score(q.Items[at].Values); got != a.Scores[i] {
			t.Fatalf("place %d: %v, the model says %v", i, a.Scores[i], got)
		}
		if i > 0 && a.Scores[i] > a.Scores[i-1] {
			t.Fatalf("place %d stands below a lesser score", i)
		}
	}
}

func TestTheColumnsOrderIsTheRequestsOwn(t *testing.T) {
	w, q := start(t), ask("anna", 30, 2)
	want := rank(t, w, q)
	turned := *q
	turned.Features = slices.Clone(q.Features)
	slices.Reverse(turned.Features)
	turned.Items = slices.Clone(q.Items)
	for i := range turned.Items {
		turned.Items[i].Values = slices.Clone(q.Items[i].Values)
		slices.Reverse(turned.Items[i].Values)
	}
	if got := rank(t, w, &turned); !slices.Equal(got.Order, want.Order) || !slices.Equal(got.Scores, want.Scores) {
		t.Error("another order of columns gave another ranking")
	}
}

func TestReasonsAddUpToTheScore(t *testing.T) {
	w := start(t)
	q := ask("anna", 60, 3)
	q.Controls = feed.Controls{More: []string{"cooking"}, Less: []string{"cars", "music"}, Off: []string{"region-trend"}}
	q.Reasons = &feed.ReasonsInline{Items: 60}
	a := rank(t, w, q)
	for i, it := range a.Reasons.Items {
		sum := a.Reasons.Expected
		for _, r := range it.Reasons {
			sum += r.Contribution
		}
		if math.Abs(sum-a.Scores[i]) > 1e-9 || it.ID != a.Order[i] || it.Rank != i+1 {
			t.Errorf("place %d: reasons add up to %v, the score is %v", i+1, sum, a.Scores[i])
		}
		if it.Summary.EN == "" || it.Summary.FR == "" {
			t.Errorf("place %d has no summary", i+1)
		}
	}
	if later := why(t, w, a, "", 60); !later.Reproduce || len(later.Items) != 60 || later.Items[7].Score != a.Scores[7] {
		t.Error("reasons on demand are not those of the answer")
	}
}

// The switch of DSA art. 38.
func TestWithoutProfilingNothingPersonalMovesAScoreOrIsKept(t *testing.T) {
	w := start(t)
	q := ask("anna", 80, 4)
	q.Profiling = false
	want := rank(t, w, q)
	other := ask("anna", 80, 5)
	for i := range q.Items {
		for _, f := range personal {
			q.Items[i].Values[f] = other.Items[i].Values[f]
		}
	}
	got := rank(t, w, q)
	if !slices.Equal(got.Scores, want.Scores) || !slices.Equal(got.Order, want.Order) {
		t.Error("scores moved with personal features")
	}
	q.Profiling = true
	if on := rank(t, w, q); slices.Equal(on.Scores, want.Scores) {
		t.Error("with profiling the scores are the same: the switch does nothing")
	}
	for _, it := range stored(t, w, got).Items {
		if it.Values[0] != 0.3 || it.Values[1] != 0 || it.Values[2] == it.Values[2] || it.Values[8] != 20 {
			t.Fatalf("personal values were kept: %v", it.Values)
		}
	}
	for _, it := range why(t, w, got, "", 80).Items {
		for _, r := range it.Reasons {
			if r.Personal && !r.Neutral {
				t.Fatalf("a reason claims that %s counted", r.Group)
			}
		}
	}
}

func TestSettingsReweighAsStatedAndShowInTheReasons(t *testing.T) {
	w, q := start(t), ask("anna", 100, 6)
	scores := func(c feed.Controls) map[string]float64 {
		q.Controls = c
		a, out := rank(t, w, q), map[string]float64{}
		for i, id := range a.Order {
			out[id] = a.Scores[i]
		}
		return out
	}
	plain, set := scores(feed.Controls{}), scores(feed.Controls{More: []string{"cooking"}, Less: []string{"cars"}})
	moved := 0
	for _, it := range q.Items {
		want := plain[it.ID]
		switch it.Values[10] {
		case 2:
			want, moved = want+1, moved+1
		case 17:
			want, moved = want-1, moved+1
		}
		if set[it.ID] != want {
			t.Errorf("topic %v: %v instead of %v", it.Values[10], set[it.ID], want)
		}
	}
	if moved < 2 {
		t.Fatal("no item was about the topics")
	}
	q.Controls = feed.Controls{More: []string{"cooking"}}
	q.Reasons = &feed.ReasonsInline{Items: 100}
	for _, it := range rank(t, w, q).Reasons.Items {
		at := slices.IndexFunc(q.Items, func(x feed.RequestItem) bool { return x.ID == it.ID })
		shown := false
		for _, r := range it.Reasons {
			shown = shown || r.Group == "topic-setting" && r.Contribution == 1
		}
		if shown != (q.Items[at].Values[10] == 2) {
			t.Errorf("the topic setting is not told where it counted, or where it did not")
		}
	}
	q.Reasons = nil
	for i := range q.Items {
		q.Items[i].Values[7] = float64(i) / 100 // trends alone differ from before
	}
	a := scores(feed.Controls{Off: []string{"region-trend"}})
	for i := range q.Items {
		q.Items[i].Values[7] = 1 - float64(i)/100
	}
	for id, s := range scores(feed.Controls{Off: []string{"region-trend"}}) {
		if s != a[id] {
			t.Fatal("a trend moved a score while trends were off")
		}
	}
	b := scores(feed.Controls{Reset: true})
	for i := range q.Items {
		q.Items[i].Values[0], q.Items[i].Values[2] = 0.99, 0.99
	}
	for id, s := range scores(feed.Controls{Reset: true}) {
		if s != b[id] {
			t.Fatal("history moved a score after a reset")
		}
	}
}

// failing is a store that cannot save.
type failing struct{ decision.Store }

func (failing) Save(context.Context, *decision.Decision) error { return errAway }

func TestAnAnswerThatCouldNotBeStoredIsNotGiven(t *testing.T) {
	w := start(t, func(w *world) { w.parts.Store = failing{w.parts.Store} })
	a, err := w.Rank(t.Context(), ask("anna", 5, 7))
	var no *feed.Refusal
	if a != nil || !errors.As(err, &no) || no.Code != feed.CodeUnavailable {
		t.Errorf("%v, %v", a, err)
	}
}

func TestARestrictedSubjectIsNotProfiled(t *testing.T) {
	w, q := start(t), ask("anna", 20, 8)
	if err := w.parts.Store.Restrict(t.Context(), "anna", true); err != nil {
		t.Fatal(err)
	}
	a := rank(t, w, q)
	if a.Profiling || !a.Restricted || stored(t, w, a).Settings.Profiling {
		t.Error("a restricted subject was profiled")
	}
	q.Subject = "bert"
	if a := rank(t, w, q); !a.Profiling || a.Restricted {
		t.Error("another subject was restricted too")
	}
}

func TestBadRequestsAreRefusedByName(t *testing.T) {
	w := start(t)
	change := func(f func(*feed.Request)) *feed.Request {
		q := ask("anna", 3, 9)
		f(q)
		return q
	}
	for name, c := range map[string]struct {
		code feed.Code
		q    *feed.Request
	}{
		"unknown surface": {feed.CodeSurface, change(func(q *feed.Request) { q.Surface = "nowhere" })},
		"unknown feature": {feed.CodeFeature, change(func(q *feed.Request) { q.Features = append(slices.Clone(names), "shoe_size") })},
		"a feature twice": {feed.CodeFeature, change(func(q *feed.Request) { q.Features = append(slices.Clone(names), names[0]) })},
		"missing feature": {feed.CodeMissing, change(func(q *feed.Request) { q.Features = names[1:] })},
		"short row":       {feed.CodeValue, change(func(q *feed.Request) { q.Items[1].Values = q.Items[1].Values[1:] })},
		"infinity":        {feed.CodeValue, change(func(q *feed.Request) { q.Items[1].Values[3] = math.Inf(1) })},
		"half a category": {feed.CodeValue, change(func(q *feed.Request) { q.Items[1].Values[10] = 2.5 })},
		"unnamed topic":   {feed.CodeValue, change(func(q *feed.Request) { q.Items[1].Values[10] = 24 })},
		"no items":        {feed.CodeItems, change(func(q *feed.Request) { q.Items = nil })},
		"too many items":  {feed.CodeItems, ask("anna", 1001, 1)},
		"an id twice":     {feed.CodeItems, change(func(q *feed.Request) { q.Items[1].ID = q.Items[0].ID })},
		"no id":           {feed.CodeItems, change(func(q *feed.Request) { q.Items[1].ID = "" })},
		"long id":         {feed.CodeItems, change(func(q *feed.Request) { q.Items[1].ID = strings.Repeat("x", 257) })},
		"unknown switch":  {feed.CodeSettings, change(func(q *feed.Request) { q.Controls.Off = []string{"gravity"} })},
		"unknown topic":   {feed.CodeSettings, change(func(q *feed.Request) { q.Controls.Less = []string{"gravity"} })},
		"more and less":   {feed.CodeSettings, change(func(q *feed.Request) { q.Controls.Less, q.Controls.More = []string{"cars"}, []string{"cars"} })},
		"nobody profiled": {feed.CodeSubject, change(func(q *feed.Request) { q.Subject = "" })},
		"long subject":    {feed.CodeSubject, change(func(q *feed.Request) { q.Subject = strings.Repeat("x", 257) })},
	} {
		_, err := w.Rank(t.Context(), c.q)
		var no *feed.Refusal
		if !errors.As(err, &no) || no.Code != c.code {
			t.Errorf("%s: %v", name, err)
		} else if strings.Contains(no.Message, "gravity") || strings.Contains(no.Message, "shoe_size") || strings.Contains(no.Message, "2.5") {
			t.Errorf("%s: the refusal repeats the request: %s", name, no.Message)
		}
	}
}

func TestBadJSONIsRefused(t *testing.T) {
	const good = `{"surface":"for-you","subject":"a","profiling":true,"features":["x"],"items":[{"id":"1","values":[1.5]}]}`
	if q, err := feed.ReadRequest(strings.NewReader(good)); err != nil || q.Items[0].Values[0] != 1.5 {
		t.Fatalf("%v", err)
	}
	if q, err := feed.ReadRequest(strings.NewReader(strings.Replace(good, "[1.5]", "[ null , -2e3 ,0]", 1))); err != nil || len(q.Items[0].Values) != 3 || q.Items[0].Values[1] != -2000 {
		t.Fatalf("%v", err)
	}
	for name, c := range map[string]struct {
		code    feed.Code
		old, is string
	}{
		"NaN":              {feed.CodeMalformed, "1.5", "NaN"},
		"Infinity":         {feed.CodeMalformed, "1.5", "-Infinity"},
		"overflow":         {feed.CodeValue, "1.5", "1e999"},
		"text":             {feed.CodeValue, "1.5", `"1.5"`},
		"bool":             {feed.CodeValue, "1.5", "true"},
		"nested":           {feed.CodeValue, "1.5", "[1]"},
		"comma in text":    {feed.CodeValue, "1.5", `"1,2"`},
		"object":           {feed.CodeValue, "[1.5]", `{"x":1}`},
		"unknown key":      {feed.CodeMalformed, `"subject"`, `"person"`},
		"profiling a text": {feed.CodeMalformed, "true", `"yes"`},
		"a second request": {feed.CodeMalformed, good, good + good},
		"cut off":          {feed.CodeMalformed, "}]}", ""},
		"nothing":          {feed.CodeMalformed, good, ""},
	} {
		_, err := feed.ReadRequest(strings.NewReader(strings.Replace(good, c.old, c.is, 1)))
		var no *feed.Refusal
		if !errors.As(err, &no) || no.Code != c.code {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzReadRequest(f *testing.F) {
	f.Add([]byte(`{"surface":"for-you","subject":"a","profiling":true,"features":["x"],"items":[{"id":"1","values":[1.5,null]}]}`))
	f.Add([]byte(`{"items":[{"values":[]},{"values":[1,]},{"values":null}]}`))
	f.Fuzz(func(t *testing.T, src []byte) {
		q, err := feed.ReadRequest(strings.NewReader(string(src)))
		var no *feed.Refusal
		if err != nil && !errors.As(err, &no) {
			t.Fatalf("no refusal: %v", err)
		}
		if err != nil {
			return
		}
		for _, it := range q.Items {
			for _, v := range it.Values {
				if math.IsInf(v, 0) {
					t.Fatal("an infinity came through")
				}
			}
		}
	})
}
