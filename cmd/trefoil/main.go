// Command trefoil is the whole of Trefoil: gateway, log, monitor, datasets and their checks.
//
// The invariant it keeps: exit codes mean what docs say: 0 done, 1 failed, 2 wrong usage,
// 3 what was checked does not hold. It holds no logic of its own.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/trefoil-eu/trefoil/internal/rules/grant"
)

// Exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
	exitUnheld = 3
)

// errUnheld is wrapped by errors that mean "what was checked does not hold": exit code 3.
var errUnheld = errors.New("does not hold")

// errUsage is wrapped by errors that mean wrong usage: exit code 2.
var errUsage = errors.New("wrong usage")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:]))
}

// run executes one command line and returns its exit code.
func run(ctx context.Context, args []string) int {
	root := newRoot()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	fmt.Fprintln(os.Stderr, "trefoil:", err)
	switch {
	case errors.Is(err, errUnheld):
		return exitUnheld
	case errors.Is(err, errUsage):
		return exitUsage
	}
	return exitFailed
}

// newRoot builds the command tree: one file a subcommand, one line here each.
func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "trefoil",
		Short:         "A sovereign data enclave: people's data stays home, every look is recorded, anyone can check",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.PersistentFlags().StringP("config", "c", "enclave.yaml", "the enclave's configuration")
	root.PersistentFlags().Bool("json", false, "print reports as JSON")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return fmt.Errorf("%w: %w", errUsage, err)
	})
	root.AddCommand(
		newAuditCommand(),
		newDatasetCommand(),
		newFeedCommand(),
		newKeyCommand(),
		newMonitorCommand(),
		newDecideCommand("approve", "Sign a request: yes", grant.KindApproval),
		newDecideCommand("deny", "Sign a request: no", grant.KindDenial),
		newGatewayCommand(),
		newIncidentCommand(),
		newDemoCommand(),
		newLogCommand(),
		newPasswdCommand(),
		newRequestCommand(),
		newDecideCommand("revoke", "Take an approval back; sessions that rest on it end", grant.KindRevocation),
		newTokenCommand(),
		newValveCommand(),
		newVerifyCommand(),
		newRegisterCommand(),
		newOrderCommand(),
		newDrawCommand(),
		newDossierCommand(),
		newCoverageCommand(),
		newCheckCommand(),
		newInitCommand(),
		newVersionCommand(),
	)
	return root
}
