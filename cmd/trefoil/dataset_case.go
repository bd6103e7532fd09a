package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/trefoil-eu/trefoil/internal/enclave"
	"github.com/trefoil-eu/trefoil/internal/home/control"
	"github.com/trefoil-eu/trefoil/internal/home/dataset"
)

// restrictions reads from the control store whose rows no dataset may hold.
func restrictions(store *control.Store) dataset.RestrictedSubjects {
	var once sync.Once
	return func(ctx context.Context, source, purpose string) ([]string, error) {
		var err error
		once.Do(func() { err = store.Prepare(ctx) })
		if err != nil {
			return nil, err
		}
		return store.Restricted(ctx, source, purpose)
	}
}

func loadCases(ctx context.Context, store *control.Store, b *dataset.Builder) error {
	if err := store.Prepare(ctx); err != nil {
		return err
	}
	return enclave.LoadCases(ctx, store, b)
}

// newDatasetBuildCommand builds datasets, and opens cases.
func newDatasetBuildCommand() *cobra.Command {
	var ask enclave.AskCase
	var name, list string
	cmd := newDatasetAction("build", "Build from a snapshot of the source, and swap in place; --case opens a case", buildDataset)
	plain := cmd.RunE
	cmd.Long = "Build datasets from a snapshot of the source, and swap them in place.\n\n" +
		"With --case, open a case: a dataset of a few subjects, listed in a file by their keys, one a line. Tables, columns and\n" +
		"forms are those of a defined dataset. Only rows that lead to these subjects are read, by index. --case names an approved\n" +
		"grant, whose dataset, end and principal are the case's, or, with --dataset and --for, a case without one, which those\n" +
		"named by --principal may open through the gateway, as far as policy and law allow them its dataset in clear. A case is\n" +
		"in the cluster inside, never counts as pseudonymised, and shares no pseudonym with any other dataset. At its end, or\n" +
		"when its grant is revoked, trefoil dataset follow (or trefoil dataset end) drops it, destroys its key, and records both."
	cmd.Example = "  trefoil dataset build analytics\n  trefoil dataset build --case 0123456789abcdef0123456789abcdef --subjects list.txt\n" +
		"  trefoil dataset build --case ticket_1234 --dataset support --subjects list.txt --for 4h --principal ann"
	f := cmd.Flags()
	f.StringVar(&name, "case", "", "open a case: an approved grant's id, or a name")
	f.StringVar(&list, "subjects", "", "file with the keys of the case's subjects, one a line")
	f.StringVar(&ask.Dataset, "dataset", "", "the defined dataset that the case is made of")
	f.StringSliceVar(&ask.Principals, "principal", nil, "who may open the case through the gateway, without a grant; once for each. Without one nobody does")
	f.DurationVar(&ask.For, "for", 0, "how long the case lasts; shortens a grant's time")
	cmd.RunE = func(cmd *cobra.Command, names []string) error {
		switch {
		case name == "" && (list != "" || ask.Dataset != "" || ask.For != 0 || len(ask.Principals) > 0):
			return fmt.Errorf("%w: --subjects, --dataset, --principal and --for go with --case", errUsage)
		case name == "":
			return plain(cmd, names)
		case list == "" || len(names) > 0:
			return fmt.Errorf("%w: --case needs --subjects FILE, and no names", errUsage)
		}
		if ask.Name = name; grantID.MatchString(name) {
			ask.Grant, ask.Name = name, ""
		}
		var err error
		if ask.Subjects, err = readLines(list); err != nil {
			return err
		}
		return openCase(cmd, ask)
	}
	return cmd
}

var grantID = regexp.MustCompile(`^[0-9a-f]{32}$`)

// readLines reads a list, one entry a line; empty lines and those that begin with # do not count.
func readLines(path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read list of subjects: %w", err)
	}
	defer f.Close()
	var out []string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if text := strings.TrimSpace(lines.Text()); text != "" && !strings.HasPrefix(text, "#") {
			out = append(out, text)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read list of subjects: %w", err)
	}
	return out, nil
}

func openCase(cmd *cobra.Command, ask enclave.AskCase) error {
	return withCases(cmd, func(ctx context.Context, r *enclave.Rules, s *control.Store, b *dataset.Builder) error {
		c, err := r.OpenCase(ctx, s, b, ask, time.Now())
		if err != nil {
			return err
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "case %s of %s: %d subjects, until %s\n", c.Name, c.Dataset, len(c.Subjects), c.Until.Format(time.RFC3339))
		err = eachDataset(ctx, cmd, b, []string{c.Name}, buildDataset)
		if errors.Is(err, dataset.ErrBusy) { // the flow was faster
			return nil
		}
		if err != nil {
			_, undo := r.EndCase(context.WithoutCancel(ctx), s, b, c.Name, time.Now())
			return errors.Join(err, undo)
		}
		return nil
	})
}

// newDatasetEndCommand ends cases.
func newDatasetEndCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "end [CASE…]",
		Short: "End cases: drop them, destroy their keys, record both; without names, those whose time is over",
		RunE: func(cmd *cobra.Command, names []string) error {
			return withCases(cmd, func(ctx context.Context, r *enclave.Rules, s *control.Store, b *dataset.Builder) error {
				if len(names) == 0 {
					var err error
					if names, err = r.Overdue(ctx, s, time.Now()); err != nil {
						return err
					}
				}
				return eachDataset(ctx, cmd, b, names, func(ctx context.Context, cmd *cobra.Command, b *dataset.Builder, name string) (any, func(), error) {
					return endCase(ctx, cmd, r, s, b, name)
				})
			})
		},
	}
}

func endCase(ctx context.Context, cmd *cobra.Command, r *enclave.Rules, s *control.Store, b *dataset.Builder, name string) (any, func(), error) {
	d, err := r.EndCase(ctx, s, b, name, time.Now())
	if errors.Is(err, dataset.ErrBusy) {
		if err := s.ShortenCase(ctx, name, time.Now()); err != nil {
			return nil, nil, err
		}
		return map[string]string{"case": name, "state": "ending"}, func() {
			fmt.Fprintf(cmd.OutOrStdout(), "%s: its time is over; whoever follows it ends it within seconds\n", name)
		}, nil
	}
	if err != nil {
		return nil, nil, err
	}
	return d, func() {
		fmt.Fprintf(cmd.OutOrStdout(), "%s ended: %d tables, %d rows, %d bytes dropped, its key destroyed\n", name, d.Tables, d.Rows, d.Bytes)
	}, nil
}

// caseKeeper follows cases from when they are opened until they end, and ends them.
type caseKeeper struct {
	cmd   *cobra.Command
	rules *enclave.Rules
	store *control.Store
	b     *dataset.Builder

	running map[string]func() // by name; ends following and waits for it
}

// caseEvery is how often cases are looked at.
const caseEvery = 2 * time.Second

func (k *caseKeeper) run(ctx context.Context) error {
	k.running = map[string]func(){}
	defer func() {
		for _, stop := range k.running {
			stop()
		}
	}()
	last := ""
	for {
		err := k.look(ctx)
		if err != nil && ctx.Err() == nil && err.Error() != last {
			fmt.Fprintln(k.cmd.ErrOrStderr(), "cases:", err)
		}
		if last = ""; err != nil {
			last = err.Error()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(caseEvery):
		}
	}
}

// look ends the cases whose time is over and follows those that are new.
func (k *caseKeeper) look(ctx context.Context) error {
	if err := enclave.LoadCases(ctx, k.store, k.b); err != nil {
		return err
	}
	over, err := k.rules.Overdue(ctx, k.store, time.Now())
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range over {
		if stop := k.running[name]; stop != nil {
			stop()
			delete(k.running, name)
		}
		_, err := k.rules.EndCase(ctx, k.store, k.b, name, time.Now())
		errs = append(errs, err)
	}
	standing := map[string]bool{}
	for _, name := range k.b.Cases() {
		standing[name] = true
		if k.running[name] == nil {
			k.running[name] = k.follow(ctx, name)
		}
	}
	for name, stop := range k.running { // ended by somebody else
		if !standing[name] {
			stop()
			delete(k.running, name)
		}
	}
	return errors.Join(errs...)
}

func (k *caseKeeper) follow(ctx context.Context, name string) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := k.b.Follow(ctx, name); err != nil {
			fmt.Fprintln(k.cmd.ErrOrStderr(), err)
		}
	}()
	return func() { cancel(); <-done }
}
