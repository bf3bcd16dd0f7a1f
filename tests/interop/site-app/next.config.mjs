export default { generateBuildId: () => "b1" };
