package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/trefoil-eu/trefoil/internal/proof/monitor"
)

// newKeyCommand makes note signing keys and shows their public halves.
func newKeyCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "key", Short: "Make signing keys, show their public halves; list, rotate and destroy the keys of pseudonyms"}
	cmd.AddCommand(newKeyNewCommand(), newKeyShowCommand(), newKeyListCommand(), newKeyRotateCommand(), newKeyDestroyCommand(), newKeySucceedCommand())
	return cmd
}

var keyUses = []string{monitor.UseLog, monitor.UseWitness, monitor.UsePermit, monitor.UseApprover, monitor.UseOfficer, monitor.UseStop}

func newKeyNewCommand() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:       "new log|witness|permit|approver|officer|stop --out FILE NAME",
		Short:     "Write a new signing key to FILE (mode 0600, never replaced) and print its vkey",
		ValidArgs: keyUses,
		Args:      keyArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" {
				return fmt.Errorf("%w: --out FILE says where the signing key goes", errUsage)
			}
			vkey, err := monitor.NewKey(args[0], args[1], out)
			if err != nil {
				return err
			}
			return printKey(cmd, vkey)
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "file for the signing key")
	return cmd
}

func newKeyShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:       "show log|witness|permit|approver|officer|stop FILE",
		Short:     "Print the vkey of a signing key",
		ValidArgs: keyUses,
		Args:      keyArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			vkey, err := monitor.ReadVerifierKey(args[0], args[1])
			if err != nil {
				return err
			}
			return printKey(cmd, vkey)
		},
	}
}

// keyArgs wants n arguments, the first of them a use.
func keyArgs(n int) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != n {
			return fmt.Errorf("%w: %d arguments are needed", errUsage, n)
		}
		for _, use := range keyUses {
			if args[0] == use {
				return nil
			}
		}
		return fmt.Errorf("%w: %q is none of log, witness, permit, approver, officer, stop", errUsage, args[0])
	}
}

func printKey(cmd *cobra.Command, vkey string) error {
	return report(cmd, map[string]string{"vkey": vkey}, func() { fmt.Fprintln(cmd.OutOrStdout(), vkey) })
}
