package catalog

import (
	"errors"
	"strings"
	"testing"
	"time"
)

var conditionColumns = map[string]string{"plan": "character varying(20)", "adult": "boolean", "score": "double precision",
	"logins": "integer", "joined": "timestamp with time zone", "kind": "app.kind", "tags": "text[]", "odd name": "text", "doc": "jsonb"}

func TestConditionChooses(t *testing.T) {
	row := map[string]any{"plan": "pro", "adult": true, "score": 1.5, "logins": int64(3),
		"joined": time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC), "kind": "a"}
	for text, want := range map[string]bool{
		`person.plan == "pro"`:                                     true,
		`person.plan == "free" || person.logins >= 3`:              true,
		`person.adult && person.score > 2.0`:                       false,
		`person.joined < timestamp("2026-02-01T00:00:00Z")`:        true,
		`person.kind in ["b", "c"]`:                                false,
		`person.plan.startsWith("p") && !(person.logins in [1,2])`: true,
		`person.plan != null`:                                      true,
	} {
		c, err := CompileCondition(text, conditionColumns)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got, err := c.Eval(row); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
}

// TestNullChoosesNobody: a condition without an answer must not choose.
func TestNullChoosesNobody(t *testing.T) {
	for _, text := range []string{`person.logins > 3`, `person.adult`, `!person.adult`, `person.plan.startsWith("")`} {
		c, err := CompileCondition(text, conditionColumns)
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range []map[string]any{{}, {"logins": nil, "adult": nil, "plan": nil}, {"logins": struct{}{}, "adult": 7, "plan": 7}} {
			if got, err := c.Eval(row); got || !errors.Is(err, ErrUndecided) {
				t.Errorf("%s: %v, %v", text, got, err)
			}
		}
	}
}

func TestConditionErrorsHoldNoValue(t *testing.T) {
	_, err := CompileCondition(`person.mail == "secret@example.org"`, conditionColumns)
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v", err)
	}
}

// TestConditionIsBounded tries to make an evaluation expensive.
func TestConditionIsBounded(t *testing.T) {
	list := "[" + strings.Repeat("1,", 60) + "1]"
	text := list + ".all(a, " + list + ".all(b, " + list + ".all(c, a+b+c+person.logins > 0)))"
	c, err := CompileCondition(text, conditionColumns)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if got, err := c.Eval(map[string]any{"logins": int64(1)}); got || err == nil {
		t.Errorf("%v, %v", got, err)
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("took %s", took)
	}
	if _, err := CompileCondition(strings.Repeat("(", 5000), conditionColumns); err == nil {
		t.Error("a long condition compiles")
	}
}

func FuzzCondition(f *testing.F) {
	f.Add(`person.plan == "pro"`, "pro", int64(1))
	f.Add(`person.logins / 0 == 1`, "", int64(-1))
	f.Fuzz(func(t *testing.T, text, plan string, logins int64) {
		c, err := CompileCondition(text, conditionColumns)
		if err != nil {
			return
		}
		if got, err := c.Eval(map[string]any{"plan": plan, "logins": logins}); err != nil && got {
			t.Fatal("an error chooses")
		}
	})
}
