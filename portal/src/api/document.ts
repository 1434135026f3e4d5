/** A GraphQL operation as text, which knows the types of its result and of its variables. */
export type TypedDocument<Result, Variables> = string & { readonly __types?: (variables: Variables) => Result };
