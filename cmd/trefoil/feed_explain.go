package main

import "github.com/spf13/cobra"

// newFeedExplainCommand prints the contributions of every row of a file.
func newFeedExplainCommand() *cobra.Command {
	return &cobra.Command{Use: "explain", Short: "Print the score of every row and what each feature added to it"}
}
