package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/accesslog"
	"github.com/trefoil-eu/trefoil/internal/proof/pack"
)

// verifyFlags are whom to believe, and what was seen before.
type verifyFlags struct {
	logKey      string
	monitorKeys []string
	witnessKeys []string

	regulatorKeys []string
	successions   []string
	quorum        int
	earlier       string
	save          string

	statementKey string
}

// newVerifyCommand checks a receipt, a log or a copy of one, trusting public keys alone.
func newVerifyCommand() *cobra.Command {
	var f verifyFlags
	cmd := &cobra.Command{
		Use:   "verify RECEIPT|STATEMENT|PACK|DIR|URL",
		Short: "Check a receipt, a monitor's statements, or a whole log, offline where it is a file or directory",
		Long: "Check a receipt (a file), a whole log (a directory: a log's own, a mirror or a copy), or a log over HTTP; with --statement-key " +
			"also a monitor's daily statement, an exported incident (files), or statements that follow each other (a directory of them). " +
			"A pack (a zip or directory: evidence of a period, an order, an inspection sample) names its own keys; with --statement-key, " +
			"or --log-key for a sample, only one that this key signed holds. " +
			"Nothing is believed but the keys given. Exit code 3 and the first thing that does not verify, if anything does not.",
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if pack.IsPack(args[0]) {
				var out verdict
				return out.finish(cmd, args[0], out.pack(args[0], &f))
			}
			if texts := readDocuments(args[0]); texts != nil {
				var out verdict
				return out.finish(cmd, args[0], out.documents(texts, &f))
			}
			t, err := f.trust()
			if err != nil {
				return fmt.Errorf("%w: %w", errUsage, err)
			}
			if err := takeUp(t, f.regulatorKeys, f.successions); err != nil {
				return err
			}
			return verify(cmd, args[0], t, &f)
		},
	}
	cmd.Flags().StringVar(&f.logKey, "log-key", "", "the log's verifier key")
	cmd.Flags().StringSliceVar(&f.monitorKeys, "monitor-key", nil, "the monitor's verifier keys: witness and permit, in any order")
	cmd.Flags().StringSliceVar(&f.witnessKeys, "witness-key", nil, "verifier keys of further witnesses")
	cmd.Flags().IntVar(&f.quorum, "quorum", 0, "how many of the witnesses must have cosigned; 0 = all")
	cmd.Flags().StringSliceVar(&f.successions, "succession", nil, "a note by which one key took over from another (trefoil key succeed); several in their order")
	cmd.Flags().StringSliceVar(&f.regulatorKeys, "regulator-key", nil, "verifier key of a regulator, who may sign a succession in an outgoing key's place")
	cmd.Flags().StringVar(&f.earlier, "earlier", "", "a checkpoint seen before: the log must still begin with what it had then")
	cmd.Flags().StringVar(&f.statementKey, "statement-key", "", "the monitor's statement key, for its statements and incidents")
	cmd.Flags().StringVar(&f.save, "save-checkpoint", "", "where to keep the verified checkpoint, for --earlier next time")
	return cmd
}

func (f *verifyFlags) trust() (*trefoil.Trust, error) {
	if f.logKey == "" || len(f.monitorKeys) == 0 {
		return nil, errors.New("--log-key and --monitor-key say whom to believe; without them nothing can be checked")
	}
	if f.quorum < 0 {
		return nil, errors.New("--quorum cannot be negative")
	}
	t, err := trefoil.ParseTrust(f.logKey, append(append([]string{}, f.monitorKeys...), f.witnessKeys...))
	if err != nil {
		return nil, err
	}
	t.Quorum = f.quorum
	return t, nil
}

func verify(cmd *cobra.Command, what string, t *trefoil.Trust, f *verifyFlags) error {
	var out verdict
	var err error
	if strings.HasPrefix(what, "http://") || strings.HasPrefix(what, "https://") {
		err = out.log(cmd.Context(), trefoil.NewClient(what, nil), t, f)
	} else if info, statErr := os.Stat(what); statErr != nil {
		return fmt.Errorf("verify: %w", statErr)
	} else if info.IsDir() {
		err = out.directory(cmd.Context(), what, t, f)
	} else {
		err = out.receipt(what, t)
	}
	return out.finish(cmd, what, err)
}

// finish reports what was found: err is what failed, if anything did.
func (out *verdict) finish(cmd *cobra.Command, what string, err error) error {
	var failed *trefoil.VerifyError
	if err != nil && !errors.As(err, &failed) {
		return err
	}
	out.Holds = failed == nil
	if failed != nil {
		out.Reason, out.Text = failed.Reason, failed.Text
	}
	if err := report(cmd, out, func() { out.print(cmd.OutOrStdout()) }); err != nil {
		return err
	}
	if failed != nil {
		return fmt.Errorf("%s %w: %w", what, errUnheld, failed)
	}
	return nil
}

// verdict is the report of `trefoil verify`.
type verdict struct {
	Holds   bool           `json:"holds"`
	Reason  trefoil.Reason `json:"reason,omitempty"` // the first thing that does not verify
	Text    string         `json:"text,omitempty"`
	Proven  []string       `json:"proven,omitempty"`
	Caveats []string       `json:"not_proven,omitempty"`
	Origin  string         `json:"origin,omitempty"`
	Size    uint64         `json:"size,omitempty"`
	Index   *uint64        `json:"index,omitempty"`
	Bodies  *bodyCount     `json:"bodies,omitempty"`
}

// bodyCount is how many bodies beside the log were compared with their leaves.
type bodyCount struct {
	Matching uint64 `json:"matching"`
	Gone     uint64 `json:"gone"` // deleted or expired
}

func (v *verdict) print(w io.Writer) {
	if !v.Holds {
		return // the error line says it
	}
	for _, p := range v.Proven {
		fmt.Fprintln(w, "proven:    ", p)
	}
	for _, c := range v.Caveats {
		fmt.Fprintln(w, "not proven:", c)
	}
}

func (v *verdict) prove(format string, args ...any) {
	v.Proven = append(v.Proven, fmt.Sprintf(format, args...))
}

// receipt checks one receipt file.
func (v *verdict) receipt(path string, t *trefoil.Trust) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	r, err := trefoil.ParseReceipt(text)
	if err != nil {
		return &trefoil.VerifyError{Reason: trefoil.ReasonFormat, Text: err.Error()}
	}
	b, err := t.VerifyReceipt(r)
	if err != nil {
		return err
	}
	p, err := trefoil.ParseProof(r.Proof)
	if err != nil {
		return err
	}
	c, err := t.VerifyCheckpoint(p.Checkpoint)
	if err != nil {
		return err
	}
	v.Origin, v.Size, v.Index = c.Origin, c.Size, &p.Index
	v.prove("%s record of %s: %s", b.Kind, b.At.Format(time.RFC3339), summary(b))
	v.prove("it is entry %d of %s, a tree of %d entries that the log signed", p.Index, c.Origin, c.Size)
	v.witnesses(c)
	switch {
	case r.Permit != "":
		v.prove("the monitor permitted this release (%s)", t.Permit.Name())
	case trefoil.Unpermitted(b):
		v.Caveats = append(v.Caveats, "a permit: the record says of itself that it went out UNPERMITTED")
	}
	v.Caveats = append(v.Caveats, "that no other byte left: that takes the valve and egress totals")
	return nil
}

func (v *verdict) witnesses(c *trefoil.Checkpoint) {
	for _, w := range c.Witnessed {
		v.prove("%s cosigned that tree at %s", w.Witness, w.At.Format(time.RFC3339))
	}
}

// directory checks a log on disk, and the bodies beside it where it is the site's own.
func (v *verdict) directory(ctx context.Context, dir string, t *trefoil.Trust, f *verifyFlags) error {
	own := filepath.Join(dir, accesslog.PublicDir)
	if _, err := os.Stat(filepath.Join(own, "checkpoint")); err != nil {
		return v.log(ctx, trefoil.Directory(dir), t, f)
	}
	if err := v.log(ctx, trefoil.Directory(own), t, f); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, accesslog.PrivateDir)); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return v.bodies(ctx, dir, own, t)
}

// log checks a whole log.
func (v *verdict) log(ctx context.Context, fetch trefoil.Fetcher, t *trefoil.Trust, f *verifyFlags) error {
	o := trefoil.LogOptions{Tiles: true}
	if f.earlier != "" {
		raw, err := os.ReadFile(f.earlier)
		if err != nil {
			return fmt.Errorf("verify: %w", err)
		}
		o.Earlier = raw
	}
	bar := newBar("entries")
	o.Progress = bar.set
	report, err := trefoil.VerifyLog(ctx, fetch, t, o)
	bar.finish()
	if err != nil {
		if errors.Is(err, trefoil.ErrNotFound) {
			return fmt.Errorf("verify: there is no log here: %w", err)
		}
		return err
	}
	c := report.Checkpoint
	v.Origin, v.Size = c.Origin, c.Size
	v.prove("all %d entries of %s give the root that the log signed", c.Size, c.Origin)
	v.witnesses(c)
	if report.Earlier != nil {
		v.prove("the log still begins with the %d entries of the earlier checkpoint", report.Earlier.Size)
	}
	v.Caveats = append(v.Caveats, "that no other byte left: that takes the valve and egress totals")
	if f.save != "" {
		if err := os.WriteFile(f.save, report.Raw, 0o644); err != nil {
			return fmt.Errorf("save checkpoint: %w", err)
		}
	}
	return nil
}

// bodies compares every body kept beside the log with its leaf.
func (v *verdict) bodies(ctx context.Context, dir, public string, t *trefoil.Trust) error {
	r, err := accesslog.OpenReader(dir)
	if err != nil {
		return err
	}
	defer r.Close()
	count := &bodyCount{}
	bar := newBar("bodies")
	defer bar.finish()
	_, err = trefoil.VerifyLog(ctx, trefoil.Directory(public), t, trefoil.LogOptions{
		Progress: bar.set,
		Leaf: func(index uint64, leaf []byte) error {
			record, _, err := r.Body(index)
			if errors.Is(err, accesslog.ErrNoBody) {
				count.Gone++
				return nil
			}
			if err != nil || string(record.Leaf()) != string(leaf) {
				return &trefoil.VerifyError{Reason: trefoil.ReasonRecord, Text: fmt.Sprintf("the body kept for entry %d is not the one that was logged", index)}
			}
			count.Matching++
			return nil
		},
	})
	if err != nil {
		return err
	}
	v.Bodies = count
	v.prove("%d bodies kept beside the log are the ones that were logged; %d were deleted or have expired", count.Matching, count.Gone)
	return nil
}

// bar is a progress bar on a terminal, and nothing elsewhere.
type bar struct {
	what string
	bar  *progressbar.ProgressBar
}

func newBar(what string) *bar { return &bar{what: what} }

func (b *bar) set(done, total uint64) {
	if b.bar == nil {
		if !term.IsTerminal(int(os.Stderr.Fd())) {
			return
		}
		b.bar = progressbar.NewOptions64(int64(total), progressbar.OptionSetWriter(os.Stderr), progressbar.OptionSetDescription(b.what),
			progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())
	}
	_ = b.bar.Set64(int64(done))
}

func (b *bar) finish() {
	if b.bar != nil {
		_ = b.bar.Finish()
	}
}
