package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/thriftc/thriftc/internal/train/arch"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/passes"
	"github.com/thriftc/thriftc/passes/all"
)

// addCompletion says what a shell may offer for the arguments and flags of all commands.
func addCompletion(root *cobra.Command) {
	files := func(ext ...string) cobra.CompletionFunc {
		return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return ext, cobra.ShellCompDirectiveFilterFileExt
		}
	}
	words := func(w []string) cobra.CompletionFunc {
		return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return w, cobra.ShellCompDirectiveNoFileComp
		}
	}
	folders := func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return nil, cobra.ShellCompDirectiveFilterDirs
	}
	data := files("yaml", "yml")
	flags := map[string]cobra.CompletionFunc{
		"passes": completePipeline, "data": data, "train-data": data, "eval-data": data, "val-data": data, "recipe": data,
		"teacher": files("onnx"), "input": files("npz"), "check": files("npz"), "pairs": folders, "dump-dir": folders,
		"level": words(levelNames), "kernel": words(kernelNames), "format": words([]string{"qdq", "qcdq", "qonnx"}),
	}
	for _, c := range root.Commands() {
		switch c.Name() {
		case "passes":
			c.ValidArgsFunction = words(passNames())
		case "ops":
			var names []string
			for _, o := range ops.Table().Ops() {
				names = append(names, o.Name)
			}
			c.ValidArgsFunction = words(names)
		case "gate":
			c.ValidArgsFunction = files("json")
		case "version":
			c.ValidArgsFunction = words(nil)
		case "train":
			c.ValidArgsFunction = func(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
				if !strings.HasPrefix(typed, "a") {
					return []string{"onnx"}, cobra.ShellCompDirectiveFilterFileExt
				}
				var names []string
				for n := range strings.SplitSeq(arch.Names(), "; ") {
					names = append(names, "arch:"+strings.Fields(n)[0])
				}
				return names, cobra.ShellCompDirectiveNoFileComp
			}
		default:
			c.ValidArgsFunction = files("onnx", "tir")
		}
		for name, f := range flags {
			if c.Name() == "gate" && name == "format" {
				f = words([]string{"text", "json", "junit"})
			}
			if c.Flags().Lookup(name) != nil {
				// The error says that the flag is unknown, or has completions already.
				_ = c.RegisterFlagCompletionFunc(name, f)
			}
		}
	}
}

func passNames() []string {
	var out []string
	for _, p := range all.Table.Passes {
		out = append(out, p.Name)
	}
	for _, p := range all.Table.Pipelines {
		out = append(out, p.Name)
	}
	return out
}

// completePipeline offers passes and pipelines, and within braces the options of what stands before.
func completePipeline(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	const directive = cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	open := strings.LastIndexByte(typed, '{')
	if open <= strings.LastIndexByte(typed, '}') {
		return prefixed(typed[:strings.LastIndexByte(typed, ',')+1], passNames()), directive
	}
	name := typed[strings.LastIndexAny(typed[:open], ",}")+1 : open]
	start := open + 1 + strings.LastIndexByte(typed[open+1:], ',') + 1
	var names []string
	for _, o := range optionsOf(name) {
		if o.Type != "bool" {
			o.Name += "="
		}
		if !slices.Contains(names, o.Name) {
			names = append(names, o.Name)
		}
	}
	return prefixed(typed[:start], names), directive
}

func prefixed(prefix string, words []string) []string {
	var out []string
	for _, w := range words {
		out = append(out, prefix+w)
	}
	return out
}

// optionsOf returns the options of a pass, or of the passes of a pipeline, that of earlier ones first.
func optionsOf(name string) []passes.Option {
	steps, err := all.Table.Parse(name)
	if err != nil {
		return nil
	}
	var out []passes.Option
	for _, s := range steps {
		for _, o := range s.Info.Options() {
			if !slices.ContainsFunc(out, func(p passes.Option) bool { return p.Name == o.Name }) {
				out = append(out, o)
			}
		}
	}
	return out
}
