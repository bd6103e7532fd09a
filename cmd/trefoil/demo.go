package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/trefoil-eu/trefoil/internal/demo"
)

// newDemoCommand runs the whole enclave on this machine and tells its story.
func newDemoCommand() *cobra.Command {
	o := demo.Options{Follow: true, Valve: true}
	var once, stop bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run a whole enclave on this machine and verify every claim that it prints",
		Long: "Starts three PostgreSQL sites (simulated), two dataset clusters, gateway, log and monitor; loads a\n" +
			"generated platform; builds three datasets, which then follow it; and verifies every claim that it prints. On a terminal the\n" +
			"enclave then runs until Ctrl-C. Exit code 3: a claim does not hold.\n\n" +
			"--detach tells no story: it leaves the enclave running and writes its addresses to DIR/demo.env.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case stop && (once || o.Detach), once && o.Detach:
				return fmt.Errorf("%w: --once, --detach and --stop exclude each other", errUsage)
			case (stop || o.Detach) && o.Dir == "":
				return fmt.Errorf("%w: --dir names the demonstration's directory", errUsage)
			case o.People < 100:
				return fmt.Errorf("%w: --people must be at least 100", errUsage)
			case stop:
				return demo.Stop(cmd.Context(), o.Dir)
			}
			o.Out = cmd.OutOrStdout()
			if o.Detach {
				return detachDemo(cmd.Context(), o)
			}
			return tellDemo(cmd.Context(), o, !once && term.IsTerminal(int(os.Stdout.Fd())))
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Dir, "dir", "", "directory (default: a temporary one, removed at the end)")
	f.Int64Var(&o.People, "people", 100_000, "size of the generated platform")
	f.BoolVar(&once, "once", false, "tell the story and end, also on a terminal")
	f.BoolVar(&o.Detach, "detach", false, "leave the enclave running and write DIR/demo.env")
	f.BoolVar(&stop, "stop", false, "stop what runs in DIR")
	return cmd
}

func detachDemo(ctx context.Context, o demo.Options) error {
	w, err := demo.Start(ctx, o)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(o.Out, "running; addresses are in %s\n", w.EnvFile())
	return err
}

// tellDemo starts the enclave, tells the story, and on a terminal keeps the enclave running
// until the context ends.
func tellDemo(ctx context.Context, o demo.Options, stay bool) (err error) {
	if o.Dir == "" {
		if o.Dir, err = os.MkdirTemp("", "trefoil-demo-"); err != nil {
			return fmt.Errorf("make temporary directory: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(o.Dir)) }()
	}
	w, err := demo.Start(ctx, o)
	if err != nil {
		return err
	}
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
		defer cancel()
		err = errors.Join(err, w.Close(end))
	}()
	outcomes := w.Tell(ctx, o.Out)
	failed := 0
	for _, outcome := range outcomes {
		if outcome.Err != nil {
			failed++
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	fmt.Fprintf(o.Out, "\n%d of %d claims hold.\n", len(outcomes)-failed, len(outcomes))
	if stay {
		fmt.Fprintf(o.Out, "\nThe enclave runs until Ctrl-C. In another terminal:\n")
		for _, kv := range w.Environment() {
			fmt.Fprintf(o.Out, "  %s='%s'\n", kv[0], kv[1])
		}
		<-ctx.Done()
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d claims: %w", failed, len(outcomes), errUnheld)
	}
	return nil
}
