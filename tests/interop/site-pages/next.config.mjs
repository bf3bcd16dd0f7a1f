export default {
  generateBuildId: () => "b1",
  i18n: { locales: ["en", "de"], defaultLocale: "en" },
};
