package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/trefoil-eu/trefoil/internal/door/identity"
)

// newPasswdCommand makes a verifier for people.yaml. The password itself is never stored,
// shown or taken from the command line, where other users of the machine could read it.
func newPasswdCommand() *cobra.Command {
	var iterations int
	c := &cobra.Command{
		Use:   "passwd [ID]",
		Short: "Make a SCRAM-SHA-256 verifier for people.yaml from a password",
		Long: "Reads a password, twice from a terminal without showing it or one line from standard input, and\n" +
			"prints its SCRAM-SHA-256 verifier; with ID, as an entry to paste into people.yaml.",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if iterations < identity.MinIterations || iterations > identity.MaxIterations {
				return fmt.Errorf("%w: --iterations must be %d to %d", errUsage, identity.MinIterations, identity.MaxIterations)
			}
			password, err := readPassword(cmd.InOrStdin(), cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			verifier, err := identity.NewVerifier(password, iterations)
			if err != nil {
				return err
			}
			asJSON, _ := cmd.Flags().GetBool("json")
			return printVerifier(cmd.OutOrStdout(), args, verifier, asJSON)
		},
	}
	c.Flags().IntVar(&iterations, "iterations", identity.DefaultIterations, "rounds of PBKDF2; every client does them at every login")
	return c
}

func printVerifier(w io.Writer, args []string, verifier string, asJSON bool) error {
	id := ""
	if len(args) == 1 {
		id = args[0]
	}
	var err error
	switch {
	case asJSON:
		err = json.NewEncoder(w).Encode(struct {
			ID       string `json:"id,omitempty"`
			Verifier string `json:"verifier"`
		}{id, verifier})
	case id != "":
		_, err = fmt.Fprintf(w, "  - id: %q\n    verifier: %q\n", id, verifier)
	default:
		_, err = fmt.Fprintln(w, verifier)
	}
	return err
}

// readPassword asks twice on a terminal, else takes the first line.
func readPassword(in io.Reader, prompt io.Writer) (string, error) {
	if f, ok := in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		ask := func(text string) (string, error) {
			fmt.Fprint(prompt, text)
			p, err := term.ReadPassword(int(f.Fd()))
			fmt.Fprintln(prompt)
			if err != nil {
				return "", fmt.Errorf("read password: %w", err)
			}
			return string(p), nil
		}
		first, err := ask("Password: ")
		if err != nil {
			return "", err
		}
		second, err := ask("Again: ")
		if err != nil {
			return "", err
		}
		if first != second {
			return "", errors.New("the two passwords differ")
		}
		return checkPassword(first)
	}
	line, err := bufio.NewReaderSize(in, 4096).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read password: %w", err)
	}
	return checkPassword(strings.TrimRight(line, "\r\n"))
}

func checkPassword(p string) (string, error) {
	if p == "" {
		return "", fmt.Errorf("%w: the password is empty", errUsage)
	}
	if len(p) > 1024 || strings.ContainsRune(p, 0) {
		return "", fmt.Errorf("%w: the password is longer than 1024 bytes or holds a NUL", errUsage)
	}
	return p, nil
}
