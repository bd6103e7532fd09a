package feed

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/trefoil-eu/trefoil/internal/people/feed/decision"
)

// Research is a table of shown items for vetted researchers (DSA art. 40). It stands in the
// enclave and holds the subject's key; a dataset made of it holds the pseudonym. docs/feed.md
// gives its entries for catalog.yaml and datasets.yaml.
type Research struct{ pool *pgxpool.Pool }

// NewResearch makes one on a pool that the caller owns. Prepare comes first.
func NewResearch(pool *pgxpool.Pool) *Research { return &Research{pool} }

// Prepare creates the table where it is missing. decision.Postgres.Prepare made the schema.
func (x *Research) Prepare(ctx context.Context) error {
	if _, err := x.pool.Exec(ctx, `
create table if not exists trefoil_feed.research_sample (
	id           text primary key,
	subject      text not null,
	day          date not null,
	surface      text not null,
	model        text not null,
	profiling    boolean not null,
	settings     integer not null,
	rank         integer not null,
	topic        text not null,
	region       text not null,
	creator_size text not null,
	score        double precision not null,
	main_reason  text not null,
	main_share   double precision not null
);
create index if not exists research_sample_subject on trefoil_feed.research_sample (subject);
create index if not exists research_sample_day on trefoil_feed.research_sample (day);`); err != nil {
		return fmt.Errorf("prepare research sample: %w", err)
	}
	return nil
}

// Erase deletes a subject's rows.
func (x *Research) Erase(ctx context.Context, subject string) error {
	if _, err := x.pool.Exec(ctx, "delete from trefoil_feed.research_sample where subject = $1", subject); err != nil {
		return fmt.Errorf("erase from research sample: %w", err)
	}
	return nil
}

var researchColumns = []string{"id", "subject", "day", "surface", "model", "profiling", "settings", "rank", "topic", "region",
	"creator_size", "score", "main_reason", "main_share"}

// SampleForResearch replaces a day's rows by the shown items of a fresh sample of decisions,
// none of a restricted subject, and drops days before keep. It returns the number of rows.
func (o *Opened) SampleForResearch(ctx context.Context, day, keep time.Time) (int, error) {
	if o.Research == nil {
		return 0, fmt.Errorf("sample for research: the memory store has no table for it")
	}
	var rows [][]any
	for name := range o.surfaces {
		found, err := o.store.Sample(ctx, name, day, o.config.Checks.Sample)
		if err != nil {
			return 0, fmt.Errorf("sample for research: %w", err)
		}
		for _, d := range found {
			if d.Unreadable {
				continue // Check opens its incident
			}
			more, err := o.researchRows(d)
			if err != nil {
				return 0, fmt.Errorf("sample for research: %w", err)
			}
			rows = append(rows, more...)
		}
	}
	err := pgx.BeginFunc(ctx, o.Research.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "delete from trefoil_feed.research_sample where day = $1 or day < $2", decision.Day(day), decision.Day(keep)); err != nil {
			return err
		}
		if _, err := tx.CopyFrom(ctx, pgx.Identifier{decision.Schema, "research_sample"}, researchColumns, pgx.CopyFromRows(rows)); err != nil {
			return err
		}
		// A subject who was restricted, or erased, while the sample was drawn.
		_, err := tx.Exec(ctx, `delete from trefoil_feed.research_sample s where day = $1 and (
			exists (select from trefoil_feed.restricted r where r.subject = s.subject)
			or not exists (select from trefoil_feed.decisions d where d.day = $1 and d.subject = s.subject))`, decision.Day(day))
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("sample for research: %w", err)
	}
	return len(rows), nil
}

func (o *Opened) researchRows(d *decision.Decision) ([][]any, error) {
	b, err := o.modelOf(d)
	if err != nil {
		return nil, err
	}
	why, err := o.reasons(b, d, selection{first: o.surfaces[d.Surface].config.Shown})
	if err != nil {
		return nil, err
	}
	settings := len(d.Settings.Off) + len(d.Settings.Topics)
	if d.Settings.Reset {
		settings++
	}
	var rows [][]any
	for i, it := range why.Items {
		main, share := "", 0.0
		if len(it.Reasons) > 0 {
			main, share = it.Reasons[0].Group, it.Reasons[0].Share
		}
		x := d.Items[i]
		rows = append(rows, []any{fmt.Sprintf("%s-%d", d.ID, it.Rank), d.Subject, decision.Day(d.At()), d.Surface, why.Model, d.Settings.Profiling,
			settings, it.Rank, x.Topic, x.Region, x.Creator, it.Score, main, share})
	}
	return rows, nil
}
