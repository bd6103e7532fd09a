package dataset

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/trefoil-eu/trefoil/internal/home/transform"
)

// This file reads the lists of subjects again while a dataset follows its source: the list that
// chooses them, and that of subjects whose rows no dataset may hold now. Who is added or taken
// from one enters or leaves with all rows that lead to them, without a build.

// listsEvery is how often lists are looked at.
const listsEvery = time.Second

// readWait bounds the reading of restrictions when a plan is made.
const readWait = 15 * time.Second

// RestrictedSubjects tells which subjects' rows no dataset of a source and purpose may hold now
// (GDPR art. 18, 21): keys of the person table, as the source prints them. An error is no
// answer: nothing is built and nothing followed until there is one.
type RestrictedSubjects func(ctx context.Context, source, purpose string) ([]string, error)

// listed is a chooser's lists with where they come from.
type listed struct {
	path       string      // of the list of subjects, "" when there is none
	seen       os.FileInfo // when it was read
	restricted func(ctx context.Context) ([]string, error)
	at         time.Time
}

// restrict has the chooser leave out restricted subjects.
func (c *chooser) restrict(cfg Config, p *plan, t *table) error {
	if cfg.Restricted == nil {
		return nil
	}
	if t.src.Column(p.cat.Person.Key) == nil {
		return fmt.Errorf("column %s.%s is not at the source", t.name, p.cat.Person.Key)
	}
	c.key = t.ask(p.cat.Person.Key)
	c.from.restricted = func(ctx context.Context) ([]string, error) { return cfg.Restricted(ctx, p.ds.Source, p.ds.Purpose) }
	ctx, cancel := context.WithTimeout(context.Background(), readWait)
	defer cancel()
	subjects, err := c.from.restricted(ctx)
	if err != nil {
		return fmt.Errorf("read which subjects are restricted: %w", err)
	}
	c.restricted = setOf(subjects)
	return nil
}

func setOf(keys []string) map[string]bool {
	out := make(map[string]bool, len(keys))
	for _, k := range keys {
		out[k] = true
	}
	return out
}

// renew reads the lists again. It returns the keys of which another list says otherwise now.
func (c *chooser) renew(ctx context.Context, narrow *narrow) ([]string, error) {
	var changed []string
	if c.from.path != "" {
		info, err := os.Stat(c.from.path)
		if err != nil {
			return nil, fmt.Errorf("read subject list: %w", err)
		}
		if c.from.seen == nil || !info.ModTime().Equal(c.from.seen.ModTime()) || info.Size() != c.from.seen.Size() || !os.SameFile(info, c.from.seen) {
			list, err := readSubjects(c.from.path)
			if err != nil {
				return nil, err
			}
			if narrow != nil {
				list = narrow.chosen(list)
			}
			changed = append(changed, otherwise(c.list, list)...)
			c.list, c.from.seen = list, info
		}
	}
	if c.from.restricted != nil {
		subjects, err := c.from.restricted(ctx)
		if err != nil {
			return nil, fmt.Errorf("read which subjects are restricted: %w", err)
		}
		now := setOf(subjects)
		changed = append(changed, otherwise(c.restricted, now)...)
		c.restricted = now
	}
	return changed, nil
}

// otherwise lists what is in one of two sets.
func otherwise(a, b map[string]bool) []string {
	var out []string
	for k := range a {
		if !b[k] {
			out = append(out, k)
		}
	}
	for k := range b {
		if !a[k] {
			out = append(out, k)
		}
	}
	return out
}

// renewLists looks at the lists; f.listed is the subjects of whom they say otherwise now.
func (f *follower) renewLists(ctx context.Context) error {
	t := f.p.person
	if t == nil || t.choose == nil || t.choose.from.path == "" && t.choose.from.restricted == nil || time.Since(t.choose.from.at) < f.b.pace.lists {
		return nil
	}
	changed, err := t.choose.renew(ctx, f.p.narrow)
	if err != nil {
		return err
	}
	t.choose.from.at = time.Now()
	f.listed = append(f.listed, changed...)
	return nil
}

// relist has the batch in progress, which is one as of a snapshot, decide again about persons
// of whom a list says otherwise. What the dataset rests on changes in the batch's transaction.
func (f *follower) relist(ctx context.Context, s *settler) error {
	if len(f.listed) == 0 {
		return nil
	}
	t := f.p.person
	column := f.p.cat.Person.Key
	whole := transform.ParseType(t.src.Column(column).BaseType).Integer()
	var keys [][]string
	for _, k := range f.listed {
		if _, ok := parseWhole([]byte(k)); ok || !whole { // what is no number is nobody's key
			keys = append(keys, []string{k})
		}
	}
	slices.SortFunc(keys, func(a, b []string) int { return slices.Compare(a, b) })
	err := inParts(keys, func(part [][]string) error {
		return s.fetch(ctx, t, []string{column}, part, func(line []byte) { s.dirty[t].add(t.keyOf(line)) })
	})
	if err != nil {
		return err
	}
	if err := f.b.found(f.p); err != nil {
		return err
	}
	f.state.shape[basisOf] = f.p.basis
	text, err := json.Marshal(map[string]string{basisOf: f.p.basis})
	if err != nil {
		return fmt.Errorf("keep what the dataset rests on: %w", err)
	}
	if _, err := f.a.tx.Exec(ctx, "UPDATE trefoil_info.flow SET shape = shape || $1::text::jsonb", string(text)); err != nil {
		return fmt.Errorf("keep what the dataset rests on: %w", safe(err))
	}
	f.b.cfg.Logger.Info("lists of subjects changed", "dataset", f.name, "subjects", len(f.listed))
	f.listed = nil
	return nil
}
